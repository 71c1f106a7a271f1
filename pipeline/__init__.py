"""Penstock: an asyncio streaming pipeline service for market data. These are its public names."""

from .checkpoints.states import StateOf, fitting, packed, unpacked
from .cli.figures import bytes_said, column_said, rows_said, seconds_said
from .clock import Clock, SystemClock
from .compose import compose
from .config import Config, load_config
from .containers.pushing import Push
from .data import DataFlow, DataManager, build_manager
from .durations import Duration, parse_duration, said_duration
from .edges.edge import Edge, EdgePolicy
from .errors import (
    BackpressureTimeout,
    BudgetExceeded,
    CallOverdue,
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
    StateMismatch,
    StorageFailed,
    TooManyDeadLetters,
    UnsizedValue,
    UnsupportedType,
    ValueTooLarge,
)
from .frames import NS_UTC, Barrier, Batch, End, Frame, MemberRows, Result, Row, Watermark
from .handed import HandedTable
from .lookahead import LookaheadReport, check_lookahead
from .mending.dead_letters import DeadLetter, DeadLetters
from .mending.tolerance import ErrorPolicy
from .registry import Registry
from .report import Report
from .results import PhaseResults, load_summary, open_results
from .runs import open_run
from .service import Pipeline, Run
from .stage import Context, Feed, Footprint, Logic, Outputs, Recipe, RowTransform, Sink, Stage, Transform
from .stores import Stores, open_stores
from .summary import PhaseSummary
from .timeline import Pacing
from .topology import Input, Topology, TopologyBuilder

__all__ = [
    "NS_UTC",
    "BackpressureTimeout",
    "Barrier",
    "Batch",
    "BudgetExceeded",
    "CallOverdue",
    "Clock",
    "Config",
    "ConfigError",
    "ContainerFailed",
    "Context",
    "CorruptEntry",
    "DataError",
    "DataFlow",
    "DataManager",
    "DeadLetter",
    "DeadLetters",
    "DiskFull",
    "Duration",
    "Edge",
    "EdgeClosed",
    "EdgePolicy",
    "End",
    "ErrorPolicy",
    "Feed",
    "FlushedAway",
    "Footprint",
    "Frame",
    "HandedTable",
    "Input",
    "InputError",
    "Interrupted",
    "InvalidKey",
    "Logic",
    "LookaheadReport",
    "ManagerClosed",
    "MemberRows",
    "NotResident",
    "Outputs",
    "Pacing",
    "PenstockError",
    "PhaseFailed",
    "PhaseResults",
    "PhaseSummary",
    "Pipeline",
    "Problem",
    "Push",
    "Recipe",
    "ReentrantDeadlock",
    "Registry",
    "Report",
    "Result",
    "Row",
    "RowTransform",
    "Run",
    "SchemaMismatch",
    "Sink",
    "Stage",
    "StateMismatch",
    "StateOf",
    "StorageFailed",
    "Stores",
    "SystemClock",
    "TooManyDeadLetters",
    "Topology",
    "TopologyBuilder",
    "Transform",
    "UnsizedValue",
    "UnsupportedType",
    "ValueTooLarge",
    "Watermark",
    "build_manager",
    "bytes_said",
    "check_lookahead",
    "column_said",
    "compose",
    "fitting",
    "load_config",
    "load_summary",
    "open_results",
    "open_run",
    "open_stores",
    "packed",
    "parse_duration",
    "rows_said",
    "said_duration",
    "seconds_said",
    "unpacked",
]
