"""The ready-made topology `backtest`: data -> features -> portfolio_* -> execution."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import Registry, Topology, compose, load_config

MANY = {"mode": "hybrid", "memory_limit_mb": 10, "persistence": {"on_completion": True, "format": "parquet"}}
"""What a portfolio keeps where a parameter space makes many: little memory each, the rest on disk."""
FEW = {"mode": "memory", "memory_limit_mb": 100}


def backtest(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Defaults of `containers:` for a backtest, in the words of the YAML; what a person writes beats them."""
    many = bool(config.get("parameter_space"))
    return {
        "data": {"type": "replay"},
        "features": {"type": "features", "inputs": ["data"]},
        "portfolio_*": {
            "type": "portfolio",
            "inputs": ["features"],
            "strategy": {"type": "sma_cross"},
            "data_flow": MANY if many else FEW,
        },
        "execution": {"type": "execution", "inputs": ["portfolio_*"]},
    }


def create_backtest_topology(
    config: Mapping[str, Any] | str | Path, *, data: str | None = None, registry: Registry | None = None
) -> Topology:
    """The topology of a backtest from a mapping, YAML text or a file in the words of the YAML.

    Raises `ConfigError` with every problem.
    """
    if isinstance(config, Mapping):
        config = {"topology": "backtest", **config}
    return compose(load_config(config, registry=registry or Registry.installed(), data=data))
