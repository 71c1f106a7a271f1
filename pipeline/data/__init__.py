"""What containers keep: the four data managers, a group's managers, and what is left on disk at the end."""

from .base import DataManager, DataStats
from .factory import build_manager
from .members import MemberStores
from .persist import Persisted, persist, persist_members
from .policy import DataFlow
from .streaming import FlushCallback

__all__ = [
    "DataFlow",
    "DataManager",
    "DataStats",
    "FlushCallback",
    "MemberStores",
    "Persisted",
    "build_manager",
    "persist",
    "persist_members",
]
