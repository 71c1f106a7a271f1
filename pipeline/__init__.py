"""Penstock: an asyncio streaming pipeline service for market data. These are its public names."""

from .clock import Clock, SystemClock
from .compose import compose
from .config import Config, load_config
from .data import DataFlow, DataManager, build_manager
from .durations import Duration, parse_duration
from .edge import Edge, EdgePolicy
from .errors import (
    ConfigError,
    ContainerFailed,
    DataError,
    EdgeClosed,
    InputError,
    Interrupted,
    PenstockError,
    PhaseFailed,
    Problem,
    SchemaMismatch,
)
from .frames import Barrier, Batch, End, Frame, Result, Row, Watermark
from .pushing import Push
from .registry import Registry
from .results import open_results
from .service import Pipeline, Run
from .stage import Context, Feed, Logic, Outputs, Recipe, RowTransform, Sink, Stage, Transform
from .summary import PhaseSummary
from .topology import Input, Topology, TopologyBuilder

__all__ = [
    "Barrier",
    "Batch",
    "Clock",
    "Config",
    "ConfigError",
    "ContainerFailed",
    "Context",
    "DataError",
    "DataFlow",
    "DataManager",
    "Duration",
    "Edge",
    "EdgeClosed",
    "EdgePolicy",
    "End",
    "Feed",
    "Frame",
    "Input",
    "InputError",
    "Interrupted",
    "Logic",
    "Outputs",
    "PenstockError",
    "PhaseFailed",
    "PhaseSummary",
    "Pipeline",
    "Problem",
    "Push",
    "Recipe",
    "Registry",
    "Result",
    "Row",
    "RowTransform",
    "Run",
    "SchemaMismatch",
    "Sink",
    "Stage",
    "SystemClock",
    "Topology",
    "TopologyBuilder",
    "Transform",
    "Watermark",
    "build_manager",
    "compose",
    "load_config",
    "open_results",
    "parse_duration",
]
