"""Small recipes and a ready-made topology for the tests of the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from pipeline.durations import Duration
from pipeline.registry import Registry
from pipeline.stage import Recipe, Stage


class Clock(Recipe, frozen=True):
    speed: Annotated[float, msgspec.Meta(gt=0)] | Literal["max"] = "max"


class Replay(Stage, frozen=True):
    tuning: ClassVar[frozenset[str]] = frozenset({"batch_rows"})

    path: str | None = None
    format: Literal["auto", "parquet", "csv"] = "auto"
    clock: Clock = Clock()
    batch_rows: Annotated[int, msgspec.Meta(gt=0)] = 65536


class Synthetic(Stage, frozen=True):
    rows: Annotated[int, msgspec.Meta(gt=0)] = 1000


class Live(Stage, frozen=True, kw_only=True):
    api_key: str
    symbols: tuple[str, ...] = ()


class Features(Stage, frozen=True):
    bars: Duration = "1m"
    windows: list[int] = []


class Strategy(Recipe, frozen=True):
    quantity: Annotated[float, msgspec.Meta(gt=0)] = 1


class SmaCross(Strategy, frozen=True, kw_only=True):
    fast: int
    slow: int

    def __post_init__(self) -> None:
        if self.fast >= self.slow:
            raise ValueError(f"expected fast below slow, found {self.fast} and {self.slow}")


class Hold(Strategy, frozen=True):
    side: Literal["long", "short"] = "long"


class Fills(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    at: Literal["next_open", "close"] = "next_open"
    fee_bps: Annotated[float, msgspec.Meta(ge=0)] = 0
    slippage_bps: Annotated[float, msgspec.Meta(ge=0)] = 0


class Portfolio(Stage, frozen=True):
    strategy: Strategy = Hold()
    fills: Fills = Fills()
    cash: float = 100_000

    def parameter_fields(self) -> Sequence[str]:
        return self.strategy.__struct_fields__


class Execution(Stage, frozen=True):
    objective: str = "sharpe"
    folder: Path | None = None


def backtest(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Small budgets where there are many portfolios, as the seed's topology builder guesses."""
    many = {"mode": "hybrid", "memory_limit_mb": 10, "persistence": {"on_completion": True, "format": "parquet"}}
    few = {"mode": "memory", "memory_limit_mb": 100}
    return {
        "data": {"type": "replay"},
        "features": {"type": "features", "inputs": ["data"]},
        "portfolio_*": {
            "type": "portfolio",
            "inputs": ["features"],
            "data_flow": many if config.get("parameter_space") else few,
        },
        "execution": {"type": "execution", "inputs": ["portfolio_*"]},
    }


def registry() -> Registry:
    made = Registry()
    for name, recipe in {
        "replay": Replay,
        "synthetic": Synthetic,
        "live": Live,
        "features": Features,
        "portfolio": Portfolio,
        "execution": Execution,
        "sma_cross": SmaCross,
        "hold": Hold,
    }.items():
        made.add(name, recipe)
    made.add_topology("backtest", backtest)
    return made
