"""The YAML in docstrings is what the configuration accepts."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import yaml

from pipeline.config import load_config
from pipeline.registry import Registry
from stages.execution.execution import Execution
from stages.portfolio.fills import Fills
from stages.portfolio.portfolio import Portfolio
from stages.portfolio.statistics import StatisticsSettings
from stages.portfolio.strategy import Strategy


def example(documented: type) -> dict[str, Any]:
    """The first block of lines in a docstring that opens with `word:`, with what is indented below it."""
    lines = inspect.cleandoc(documented.__doc__ or "").splitlines()
    first = next(place for place, line in enumerate(lines) if re.match(r"\s*[a-z_*]+:( \{.*| *)$", line))
    block = []
    for line in lines[first:]:
        if not line.strip():
            break
        block.append(line)
    found: dict[str, Any] = yaml.safe_load(inspect.cleandoc("\n" + "\n".join(block)))
    return found


STRATEGIES = [recipe for recipe in Registry.installed().recipes.values() if issubclass(recipe, Strategy)]


@pytest.mark.parametrize("documented", [Portfolio, Execution, *STRATEGIES, Fills, StatisticsSettings])
def test_documented_yaml_loads(documented: type) -> None:
    found = example(documented)
    containers = found if set(found) <= {"portfolio_*", "execution"} else {"portfolio_*": found}
    config = load_config(
        {"topology": "backtest", "containers": {"data": {"type": "synthetic"}, **containers}},
        registry=Registry.installed(),
    )
    assert config is not None
