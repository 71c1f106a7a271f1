"""Markets: schemas, feeds, features, portfolios, execution and sinks, built on pipeline's public names."""

from pipeline import Push, Registry

from .backtest import backtest, create_backtest_topology
from .execution.execution import Execution
from .features.bars import Bars
from .features.feature import Feature
from .features.features import Features
from .feeds.replay import Replay
from .feeds.synthetic import Synthetic
from .portfolio.portfolio import Portfolio
from .portfolio.strategies.ema_cross import EmaCross
from .portfolio.strategies.sma_cross import SmaCross
from .portfolio.strategy import Strategy
from .report.report import backtest_report
from .sinks.console import Console
from .sinks.parquet import ParquetSink

__all__ = [
    "Bars",
    "Console",
    "EmaCross",
    "Execution",
    "Feature",
    "Features",
    "ParquetSink",
    "Portfolio",
    "Replay",
    "SmaCross",
    "Strategy",
    "Synthetic",
    "backtest",
    "create_backtest_topology",
    "register",
]


def register(registry: Registry) -> None:
    """Enter the market's recipes under the names YAML uses."""
    registry.add("push", Push)
    registry.add("replay", Replay)
    registry.add("synthetic", Synthetic)
    registry.add("bars", Bars)
    registry.add("features", Features)
    registry.add("portfolio", Portfolio)
    registry.add("sma_cross", SmaCross)
    registry.add("ema_cross", EmaCross)
    registry.add("execution", Execution)
    registry.add("console", Console)
    registry.add("parquet", ParquetSink)
    registry.add_topology("backtest", backtest)
    registry.add_report("backtest", backtest_report)
