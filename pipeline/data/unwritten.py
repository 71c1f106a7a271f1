"""Says which changes a container ended without: those that had taken effect and for which the journal had no room."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable
from typing import Final

from ..errors import DiskFull, StorageFailed
from .live import Filed
from .records import APPEND, DELETE, FILED, ROWS, STORE

log = logging.getLogger(__name__)

NAMED: Final = 20
"""Changes that are named; the others are counted."""
_WORDS: Final = {STORE: "store", APPEND: "append", ROWS: "append", DELETE: "delete", FILED: "store"}


def raise_end(
    container: str,
    left: Iterable[tuple[int, Hashable]],
    refused: BaseException | None,
    broken: BaseException | None,
) -> None:
    """Raises `DiskFull`, or `StorageFailed` where the journal is broken, unless nothing is lost with what is left."""
    changes = changes_of(left)
    reason = broken or refused
    if not changes and broken is None:
        log.warning("%s: closed with everything on disk, though at the end there was no room: %s", container, reason)
        return
    without = (
        f", and without {len(changes)} changes that had taken effect and are not: {told(changes)}; make them "
        "again when it is open again"
    )
    kind = DiskFull if broken is None else StorageFailed
    raise kind(
        f"{container}: {reason}; it is closed, with everything that was acknowledged on disk"
        + (without if changes else "")
    ) from reason


def changes_of(records: Iterable[tuple[int, Hashable]]) -> list[str]:
    """What a caller would have to do again, by kind and key of records; the journal's own upkeep is no change."""
    return [f"{_WORDS[kind]} of {_shown(key)}" for kind, key in records if kind in _WORDS and _counts(key)]


def told(changes: list[str]) -> str:
    more = f" and {len(changes) - NAMED} more" if len(changes) > NAMED else ""
    return f"{', '.join(changes[:NAMED])}{more}"


def _counts(key: Hashable) -> bool:
    return not isinstance(key, Filed) or (key.whole and not key.tail)


def _shown(key: Hashable) -> str:
    if isinstance(key, Filed):
        key = key.name
    if isinstance(key, tuple):
        member, name = key
        return f"{name!r}" if member is None else f"{name!r} of {member!r}"
    return f"{key!r}"
