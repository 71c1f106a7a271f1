"""Plays faults on the messages of a recording, one after the other; decides, and does nothing itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .faults import Cut, Disconnect, Drop, Duplicate, Fault, Moment, Refuse, Reorder, Snapshot, Stall


class Shown(NamedTuple):
    """An event on its way to clients."""

    stream: str
    data: bytes


class Script:
    """The faults of one pass through a recording, and how far it is."""

    def __init__(self, faults: Iterable[Fault], begins_ns: int) -> None:
        self._begins = begins_ns
        self._messages: dict[tuple[str, int], list[Drop | Duplicate | Reorder | Cut]] = {}
        self._numbered: dict[tuple[str | None, int], list[Moment]] = {}
        self._timed: list[Moment] = []
        self._snapshots: list[Snapshot] = []
        self.waiting: dict[Fault, None] = dict.fromkeys(faults)
        """Those that have not come to act yet."""
        for fault in self.waiting:
            if isinstance(fault, Snapshot):
                self._snapshots.append(fault)
            elif isinstance(fault, Stall | Disconnect | Refuse):
                if fault.at_ns is not None:
                    self._timed.append(fault)
                else:
                    assert fault.message is not None
                    self._numbered.setdefault((fault.stream, fault.message), []).append(fault)
            else:
                for number in range(fault.message, fault.message + (fault.count if isinstance(fault, Drop) else 1)):
                    self._messages.setdefault((fault.stream, number), []).append(fault)
        self._timed.sort(key=lambda fault: fault.at_ns or 0)
        self._counts: Counter[str] = Counter()
        self._count = self._requests = 0
        self._lost = 0
        self._held: dict[str, Shown] = {}
        self._quiet = not self.waiting

    def moments(self, ts: int, stream: str) -> Iterator[Moment]:
        """What happens before the next message, which is this stream's; call it once for each message."""
        if self._quiet:
            return
        self._count += 1
        self._counts[stream] += 1
        while self._timed and self._begins + (self._timed[0].at_ns or 0) <= ts:
            yield self._acts(self._timed.pop(0))
        for key in ((None, self._count), (stream, self._counts[stream])):
            for fault in self._numbered.get(key, ()):
                yield self._acts(fault)

    def _acts(self, fault: Moment) -> Moment:
        self.waiting.pop(fault, None)
        if isinstance(fault, Disconnect):
            self._lost = max(self._lost, fault.lose)
        return fault

    def shown(self, stream: str, data: bytes) -> list[Shown]:
        """What is sent in place of that message, behind what `moments` had for it."""
        event = Shown(stream, data)
        if self._quiet:
            return [event]
        if self._lost:
            self._lost -= 1
            return []
        found = [event]
        held = self._held.pop(stream, None)
        for fault in self._messages.get((stream, self._counts[stream]), ()):
            self.waiting.pop(fault, None)
            match fault:
                case Drop():
                    found = []
                case Duplicate():
                    found *= 2
                case Cut():
                    kept = len(data) // 2 if fault.keep is None else fault.keep
                    found = [Shown(stream, each.data[:kept]) for each in found]
                case Reorder():
                    if found:
                        self._held[stream] = found.pop(0)
        return found if held is None else [*found, held]

    def snapshot(self) -> Snapshot | None:
        """What becomes of the next request for a book; call it once for each."""
        self._requests += 1
        for fault in self._snapshots:
            if fault.request <= self._requests < fault.request + fault.count:
                self.waiting.pop(fault, None)
                return fault
        return None
