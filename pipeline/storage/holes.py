"""Room that dead records left within segments, by size, for new records to take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .extents import Segment

TRIES: Final = 8
"""Holes looked at among those that may be a little too small."""


class Holes:
    """Every dead place once. Writing where old pages lie in the cache already costs half of what new pages cost.

    Not thread-safe: whoever owns it holds a lock.
    """

    def __init__(self) -> None:
        self._sizes: dict[int, list[tuple[int, Segment, int]]] = {}

    @property
    def any(self) -> bool:
        """Whether there is one at all."""
        return bool(self._sizes) and any(self._sizes.values())

    def add(self, space: int, segment: Segment, offset: int) -> None:
        self._sizes.setdefault(_size_class(space), []).append((space, segment, offset))

    def take(self, need: int) -> tuple[int, Segment, int] | None:
        """Space, segment and offset of a hole with room for `need` bytes and for little more; the latest first."""
        size = _size_class(need)
        near = self._sizes.get(size, ())
        for at in range(len(near) - 1, max(-1, len(near) - 1 - TRIES), -1):
            if near[at][0] >= need:
                return self._sizes[size].pop(at)
        larger = self._sizes.get(size + 1)
        return larger.pop() if larger else None

    def take_larger(self, need: int) -> tuple[int, Segment, int] | None:
        """The smallest with room for `need` bytes, however much larger: for when there is no other room."""
        for size in sorted(size for size in self._sizes if size > _size_class(need)):
            if self._sizes[size]:
                return self._sizes[size].pop()
        return None

    def drop(self, segment: Segment) -> None:
        """The segment's holes are no longer to be had."""
        for size, holes in self._sizes.items():
            self._sizes[size] = [hole for hole in holes if hole[1] is not segment]


def _size_class(space: int) -> int:
    """Sixteen classes from each power of two to the next, numbered without a gap."""
    bits = max(space.bit_length(), 5)
    return (bits << 4) + ((space >> (bits - 5)) & 15)
