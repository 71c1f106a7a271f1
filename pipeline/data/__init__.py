"""What containers keep: the four data managers, a group's managers, and what is left on disk at the end."""

from .base import DataManager, DataStats
from .factory import build_manager
from .journaled import JournaledManager
from .journaled_members import JournaledMembers, build_members
from .members import MemberStores
from .persist import Persisted, persist, persist_members
from .policy import DataFlow
from .replay import Replayed, restore_journal
from .streaming import FlushCallback

__all__ = [
    "DataFlow",
    "DataManager",
    "DataStats",
    "FlushCallback",
    "JournaledManager",
    "JournaledMembers",
    "MemberStores",
    "Persisted",
    "Replayed",
    "build_manager",
    "build_members",
    "persist",
    "persist_members",
    "restore_journal",
]
