"""What containers keep: the four data managers, a group's managers, and what is left on disk at the end.

`members.py` has a group's managers: one account per member, whose rows lie together in `shared_rows.py`. At the end
what is kept is hashed and persisted. Where durability asks for it a manager is wrapped (`journaled.py`,
`journaled_members.py`): a change takes effect and becomes a record (`recording.py`; what only a checkpoint needs
gathers before that, `waiting.py`) in one step, and comes back through `replay.py`; what is dead makes room
(`live.py`, `rewriting.py`). `stores.py` opens such managers without a run; there files are themselves what lasts
(`kept_files.py`), and a lost one costs its key alone (`damaged.py`). `checked.py` holds settings made in Python
against what they declare.
"""

from typing import TYPE_CHECKING

from ..lazily import lazily

if TYPE_CHECKING:
    from .base import DataManager, DataStats
    from .factory import build_manager
    from .journaled import JournaledManager
    from .journaled_members import JournaledMembers, build_members
    from .members import MemberStores
    from .persisting import Persisted, persist, persist_members
    from .policy import DataFlow
    from .replay import Replayed, restore_journal
    from .streaming import FlushCallback
else:  # the same again: recipes need what is quick to import, runs the rest
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "base": ("DataManager", "DataStats"),
            "factory": ("build_manager",),
            "journaled": ("JournaledManager",),
            "journaled_members": ("JournaledMembers", "build_members"),
            "members": ("MemberStores",),
            "persisting": ("Persisted", "persist", "persist_members"),
            "policy": ("DataFlow",),
            "replay": ("Replayed", "restore_journal"),
            "streaming": ("FlushCallback",),
        },
    )

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
