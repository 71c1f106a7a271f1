"""The schema for editors takes every configuration that loads, and none of the mistakes people make."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft7Validator

from pipeline import ConfigError, Registry, load_config
from pipeline.cli.new import project
from pipeline.cli.program import penstock
from pipeline.config import json_schema
from pipeline.config.located import plain
from pipeline.config.reader import read_yaml
from tests.conftest import ROOT
from tests.seed_blocks import CONSTRAINED, HIGH_FREQUENCY, OPTIMIZATION, OVERVIEW

CONFIGS = {path.stem: path.read_text() for path in sorted((ROOT / "configs").glob("*.yaml"))}
SEED = {"overview": OVERVIEW, "optimization": OPTIMIZATION, "frequency": HIGH_FREQUENCY, "constrained": CONSTRAINED}
SCHEMA = json_schema(Registry.installed())
VALIDATOR = Draft7Validator(SCHEMA)


def as_we_read(text: str) -> Any:
    located = read_yaml(text, "", {"NAME": "x"}, [])
    assert located is not None
    return plain(located)


def errors(text: str) -> list[str]:
    """Of the text as an editor's reader of YAML has it."""
    return [error.json_path for error in VALIDATOR.iter_errors(yaml.safe_load(text))]


def test_it_is_a_schema() -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert json_schema(Registry.installed()) == SCHEMA, "the same each time"
    json.dumps(SCHEMA)


@pytest.mark.parametrize("name", [*CONFIGS, *SEED])
def test_every_shipped_configuration_and_the_founding_fragments_are_valid(name: str) -> None:
    text = {**CONFIGS, **SEED}[name]
    assert errors(text) == []
    assert list(VALIDATOR.iter_errors(as_we_read(text))) == []


def test_the_project_of_new_is_valid_and_says_where_its_schema_is() -> None:
    text = project()["backtest.yaml"]
    assert errors(text) == []
    assert text.startswith("# yaml-language-server: $schema=penstock.schema.json\n")


VALID = {
    "a short strategy and one member apart": """
        containers:
          portfolio_*: {strategy: sma_cross}
          portfolio_0003: {strategy: {slow: 100}, fills: {at: close}}
        parameter_space: {fast: [5, 10], slow: {start: 20, stop: 50, step: 10}}
    """,
    "a graph of one's own with classes of one's own": """
        containers:
          ticks: {type: synthetic, schema: trade, rows: 1_000, instruments: [A.B]}
          mine: {type: "./mine.py:Mine", inputs: ticks, whatever: 3}
          bars: {type: bars, every: 1m, inputs: [{from: mine, bound: {rows: 100, mb: 1.5}}]}
    """,
    "variables, words for truth, and nothing": """
        limit: ${ROWS}
        data_flow:
        containers:
          data: {path: "${DATA}", header: yes, clock: {speed: max}}
          portfolio_*: {data_flow: {persistence: {on_completion: off}}}
          execution:
    """,
    "features by name and by mapping": """
        containers:
          features: {bars: 1m, indicators: [sma_20, {type: bollinger_upper, n: 20, k: 2.5}]}
    """,
    "samples, constraints and several strategies": """
        parameter_space:
          - {strategy: sma_cross, fast: {start: 2, stop: 9, num: 3, scale: log}, slow: [20], where: fast < slow}
          - strategy: {type: ema_cross, skip_single_price: false}
            fast: {low: 2, high: 9}
            where: [fast > 2]
            sample: {size: 3, method: latin_hypercube}
    """,
    "phases": """
        phases: [{name: train}, {name: test, needs: [train]}]
    """,
}
WRONG = {
    "an unknown setting at the top": ("continers: {}", "$"),
    "a mode that is none": ("containers: {data: {data_flow: {mode: hybird}}}", "$.containers.data.data_flow"),
    "a misspelt setting of a mode": ("data_flow: {memory_limt_mb: 5}", "$.data_flow"),
    "a limit below zero": ("data_flow: {memory_limit_mb: -5}", "$.data_flow.memory_limit_mb"),
    "text where a number belongs": (
        "containers: {data: {type: synthetic, rows: many}}",
        "$.containers.data.rows",
    ),
    "a misspelt field of a stage": ("containers: {data: {type: synthetic, rowz: 5}}", "$.containers.data"),
    "a field of another stage": ("containers: {features: {rows: 5}}", "$.containers.features"),
    "a stage that is not there": ("containers: {data: {type: sinthetic}}", "$.containers.data.type"),
    "a strategy that is not there": (
        "containers: {'portfolio_*': {strategy: {type: sma_crss}}}",
        "$.containers['portfolio_*'].strategy",
    ),
    "a misspelt parameter": (
        "containers: {'portfolio_*': {strategy: {type: sma_cross, fasst: 5}}}",
        "$.containers['portfolio_*'].strategy",
    ),
    "a choice that is none": (
        "containers: {'portfolio_*': {fills: {at: open}}}",
        "$.containers['portfolio_*'].fills",
    ),
    "a duration without a unit": ("containers: {features: {bars: 60}}", "$.containers.features.bars"),
    "a name that is no folder": ("name: a/b", "$.name"),
    "a phase without a name": ("phases: [{needs: [a]}]", "$.phases"),
    "a parameter without values": ("parameter_space: {fast: []}", "$.parameter_space"),
    "a range without an end": ("parameter_space: {fast: {start: 5}}", "$.parameter_space"),
    "a sample by an unknown method": (
        "parameter_space: {fast: [2, 3], slow: [9], sample: {size: 1, method: latin}}",
        "$.parameter_space",
    ),
    "a topology that is not there": ("topology: backtst", "$.topology"),
}


@pytest.mark.parametrize("name", VALID)
def test_what_loads_is_valid(name: str) -> None:
    assert errors(VALID[name]) == []


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_load_is_told_where_it_is(name: str) -> None:
    text, where = WRONG[name]
    with pytest.raises(ConfigError):
        load_config(text + "\n", registry=Registry.installed())
    found = errors(text)
    assert found and any(path.startswith(where) for path in found), found


def test_it_tells_what_the_structs_tell() -> None:
    fields = SCHEMA["definitions"]["stages.portfolio.strategies.sma_cross.SmaCross"]["properties"]
    assert fields["fast"]["default"] == 10
    assert fields["short"]["description"] == "Hold the opposite position instead of none."
    assert fields["quantity"]["description"].startswith("Units of the instrument"), "inherited"
    flow = SCHEMA["definitions"]["pipeline.data.policy.DataFlow"]["properties"]
    assert flow["mode"] | {"default": "memory"} == flow["mode"] and "hybrid" in flow["mode"]["enum"]
    assert flow["memory_limit_mb"]["exclusiveMinimum"] == 0
    assert "table" not in SCHEMA["definitions"]["stages.feeds.replay.Replay"]["properties"], "only Python hands it over"
    replay = next(
        option for option in SCHEMA["properties"]["containers"]["properties"]["data"]["properties"]["type"]["anyOf"]
        if option.get("const") == "replay"
    )  # fmt: skip
    assert replay["description"].startswith("A recording on disk")


def test_the_command_writes_it(tmp_path: Path) -> None:
    told = CliRunner().invoke(penstock, ["schema"])
    assert told.exit_code == 0 and json.loads(told.stdout) == json.loads(json.dumps(SCHEMA))
    file = tmp_path / "penstock.schema.json"
    told = CliRunner().invoke(penstock, ["schema", "--output", str(file)])
    assert told.exit_code == 0 and json.loads(file.read_text()) == json.loads(json.dumps(SCHEMA))


def test_it_needs_no_compiler() -> None:
    code = (
        "import sys; from pipeline import Registry; from pipeline.config import json_schema; "
        "json_schema(Registry.installed()); assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
