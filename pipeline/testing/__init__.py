"""Help for people's own tests: list feeds and sinks, a virtual clock, and examinations of stages and stores."""

from .clock import VirtualClock
from .feeds import Aborted, ListFeed, ListSink, Mark, Pause
from .managers import check_data_manager
from .snapshots import check_snapshots
from .stages import Given, check_stage, run_stage

__all__ = [
    "Aborted",
    "Given",
    "ListFeed",
    "ListSink",
    "Mark",
    "Pause",
    "VirtualClock",
    "check_data_manager",
    "check_snapshots",
    "check_stage",
    "run_stage",
]
