"""Penstock: an asyncio streaming pipeline service for market data. These are its public names."""

from .clock import Clock, SystemClock
from .compose import compose
from .config import Config, load_config
from .data import DataFlow, DataManager, build_manager
from .durations import Duration, parse_duration, said_duration
from .edge import Edge, EdgePolicy
from .errors import (
    BackpressureTimeout,
    BudgetExceeded,
    ConfigError,
    ContainerFailed,
    CorruptEntry,
    DataError,
    DiskFull,
    EdgeClosed,
    FlushedAway,
    InputError,
    Interrupted,
    InvalidKey,
    ManagerClosed,
    NotResident,
    PenstockError,
    PhaseFailed,
    Problem,
    ReentrantDeadlock,
    SchemaMismatch,
    StorageFailed,
    UnsizedValue,
    UnsupportedType,
    ValueTooLarge,
)
from .frames import NS_UTC, Barrier, Batch, End, Frame, MemberRows, Result, Row, Watermark
from .pushing import Push
from .registry import Registry
from .results import load_summary, open_results
from .service import Pipeline, Run
from .stage import Context, Feed, Logic, Outputs, Recipe, RowTransform, Sink, Stage, Transform
from .summary import PhaseSummary
from .topology import Input, Topology, TopologyBuilder

__all__ = [
    "NS_UTC",
    "BackpressureTimeout",
    "Barrier",
    "Batch",
    "BudgetExceeded",
    "Clock",
    "Config",
    "ConfigError",
    "ContainerFailed",
    "Context",
    "CorruptEntry",
    "DataError",
    "DataFlow",
    "DataManager",
    "DiskFull",
    "Duration",
    "Edge",
    "EdgeClosed",
    "EdgePolicy",
    "End",
    "Feed",
    "FlushedAway",
    "Frame",
    "Input",
    "InputError",
    "Interrupted",
    "InvalidKey",
    "Logic",
    "ManagerClosed",
    "MemberRows",
    "NotResident",
    "Outputs",
    "PenstockError",
    "PhaseFailed",
    "PhaseSummary",
    "Pipeline",
    "Problem",
    "Push",
    "Recipe",
    "ReentrantDeadlock",
    "Registry",
    "Result",
    "Row",
    "RowTransform",
    "Run",
    "SchemaMismatch",
    "Sink",
    "Stage",
    "StorageFailed",
    "SystemClock",
    "Topology",
    "TopologyBuilder",
    "Transform",
    "UnsizedValue",
    "UnsupportedType",
    "ValueTooLarge",
    "Watermark",
    "build_manager",
    "compose",
    "load_config",
    "load_summary",
    "open_results",
    "parse_duration",
    "said_duration",
]
