"""Markets: schemas, feeds, features, portfolios, execution and sinks, built on pipeline's public names."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline import Push, Registry

from .backtest import backtest, create_backtest_topology
from .execution.execution import Execution
from .features.bars import Bars
from .features.feature import Feature
from .features.features import Features
from .feeds.replay import Replay
from .feeds.synthetic import Synthetic
from .feeds.synthetic_venue import SyntheticVenue
from .portfolio.portfolio import Portfolio
from .portfolio.strategies.bollinger_reversion import BollingerReversion
from .portfolio.strategies.breakout import Breakout
from .portfolio.strategies.buy_and_hold import BuyAndHold
from .portfolio.strategies.ema_cross import EmaCross
from .portfolio.strategies.momentum import Momentum
from .portfolio.strategies.pair_reversion import PairReversion
from .portfolio.strategies.peeking import Peeking
from .portfolio.strategies.rsi import Rsi
from .portfolio.strategies.sma_cross import SmaCross
from .portfolio.strategies.zscore_reversion import ZscoreReversion
from .portfolio.strategy import Strategy
from .recording.recorded_live import RecordedLive as Live
from .schemas import KINDS, schema_of
from .sinks.console import Console
from .sinks.parquet import ParquetSink

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline import PhaseResults, Report, UnderWay, WorkDone

__all__ = [
    "Bars",
    "BollingerReversion",
    "Breakout",
    "BuyAndHold",
    "Console",
    "EmaCross",
    "Execution",
    "Feature",
    "Features",
    "Live",
    "Momentum",
    "PairReversion",
    "ParquetSink",
    "Peeking",
    "Portfolio",
    "Replay",
    "Rsi",
    "SmaCross",
    "Strategy",
    "Synthetic",
    "SyntheticVenue",
    "ZscoreReversion",
    "backtest",
    "create_backtest_topology",
    "register",
]


def register(registry: Registry) -> None:
    """Enter the market's recipes under the names YAML uses."""
    registry.add("push", Push)
    registry.add("replay", Replay)
    registry.add("live", Live)
    registry.add("synthetic", Synthetic)
    registry.add("synthetic_venue", SyntheticVenue)
    registry.add("bars", Bars)
    registry.add("features", Features)
    registry.add("portfolio", Portfolio)
    registry.add("sma_cross", SmaCross)
    registry.add("ema_cross", EmaCross)
    registry.add("breakout", Breakout)
    registry.add("momentum", Momentum)
    registry.add("rsi", Rsi)
    registry.add("zscore_reversion", ZscoreReversion)
    registry.add("bollinger_reversion", BollingerReversion)
    registry.add("pair_reversion", PairReversion)
    registry.add("buy_and_hold", BuyAndHold)
    registry.add("peeking", Peeking)
    registry.add("execution", Execution)
    registry.add("console", Console)
    registry.add("parquet", ParquetSink)
    registry.add_topology("backtest", backtest)
    registry.add_report("backtest", _report)
    registry.add_work("ingest", _ingest)
    registry.add_work("record", _record)
    registry.add_work("serve", _serve)
    registry.add_quality("market", _quality)
    for kind in KINDS:
        registry.add_record(kind, schema_of(kind))


def _report(phases: Sequence["PhaseResults"]) -> "Report | None":
    """The report on a backtest, whose charts and tables only `penstock report` needs."""
    from .report.report import backtest_report

    return backtest_report(phases)


def _quality(folder: "Path", every_ns: int | None, plot: bool) -> "Report | None":
    """The quality of market data, whose tables only `penstock quality` needs."""
    from .quality.report import market_quality

    return market_quality(folder, every_ns, plot)


async def _ingest(under_way: "UnderWay", **options: Any) -> "WorkDone":
    from .recording.works import ingest_work

    return await ingest_work(under_way, **options)


async def _record(under_way: "UnderWay", **options: Any) -> "WorkDone":
    from .recording.recording_feeds import record_work

    return await record_work(under_way, **options)


async def _serve(under_way: "UnderWay", **options: Any) -> "WorkDone":
    from .serving.work import serve_work

    return await serve_work(under_way, **options)
