"""Which messages of a source a recording has already, so that taking in a capture again changes nothing.

Of each source: when its first and last message came, the hashes of those of the last moment, and, for each minute, how
many there were and the sum of their hashes, by which a capture that is skipped is known to be the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import xxhash

from pipeline import InputError
from stages.messages import Messages

MINUTE_NS: Final = 60_000_000_000
MAX_MINUTES: Final = 131_072
"""Minutes of a source that are remembered, some 90 days of messages; older ones are skipped unchecked."""
Hashes = np.ndarray[Any, np.dtype[np.uint64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]


class Seen:
    """What has come of each source."""

    def __init__(self) -> None:
        self._sources: dict[str, _Source] = {}

    def note(self, messages: Messages) -> None:
        """These have been recorded."""
        for name, _, ts, hashes in _by_source(messages):
            self._sources.setdefault(name, _Source()).note(ts, hashes)

    def knows(self, source: str) -> bool:
        return source in self._sources

    def again(self) -> Again:
        """For going through a capture, which may have what has come by now."""
        return Again({name: source.copy() for name, source in self._sources.items()})

    def snapshot(self) -> dict[str, Any]:
        return {name: source.plain() for name, source in self._sources.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._sources = {name: _Source.of(plain) for name, plain in state.items()}


class Again:
    """Goes through a capture from its beginning and tells what of it is new."""

    def __init__(self, sources: dict[str, _Source]) -> None:
        self.skipped = 0
        self._sources = sources
        self._found: dict[str, _Source] = {}

    def new(self, messages: Messages) -> Messages:
        """Those of the messages that are not recorded. Raises `InputError` where what was recorded is not the same."""
        keep = np.ones(len(messages), np.bool_)
        for name, places, ts, hashes in _by_source(messages):
            known = self._sources.get(name)
            if known is not None and ts[0] <= known.last:
                old = known.has(ts, hashes)
                found = self._found.setdefault(name, _Source())
                found.note(ts[old], hashes[old])
                _compare(name, known, found, int(ts[-1]))
                keep[places[old]] = False
        if keep.all():
            return messages
        self.skipped += int(len(keep) - np.count_nonzero(keep))
        return _chosen(messages, keep)

    def finish(self) -> None:
        """The capture has ended. Raises as `new`, of the minutes at its end."""
        for name, found in self._found.items():
            if found.last == self._sources[name].last:
                _compare(name, self._sources[name], found, found.last + 1)


class _Source:
    def __init__(self) -> None:
        self.first = self.last = -1
        self.at_last: Counter[int] = Counter()
        self.minutes: dict[int, tuple[int, int]] = {}

    def note(self, ts: Ints, hashes: Hashes) -> None:
        if not len(ts):
            return
        if self.first < 0:
            self.first = int(ts[0])
        newest = int(ts[-1])
        if newest > self.last:
            self.at_last = Counter()
        self.last = max(newest, self.last)
        self.at_last.update(hashes[ts == self.last].tolist())
        minutes, begins = np.unique(ts // MINUTE_NS, return_index=True)
        order = np.argsort(begins)
        begins = begins[order]
        sums, counts = np.add.reduceat(hashes, begins), np.diff(np.append(begins, len(ts)))
        for minute, count, total in zip(minutes[order].tolist(), counts.tolist(), sums.tolist(), strict=True):
            before = self.minutes.get(minute, (0, 0))
            self.minutes[minute] = before[0] + count, (before[1] + total) % 2**64
        while len(self.minutes) > MAX_MINUTES:
            del self.minutes[next(iter(self.minutes))]

    def has(self, ts: Ints, hashes: Hashes) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which of these came; of the last moment each hash is asked for once for each time it came."""
        old = ts < self.last
        for at in np.flatnonzero(ts == self.last).tolist():
            value = int(hashes[at])
            if self.at_last[value] > 0:
                self.at_last[value] -= 1
                old[at] = True
        return old

    def copy(self) -> _Source:
        made = _Source()
        made.first, made.last = self.first, self.last
        made.at_last, made.minutes = Counter(self.at_last), dict(self.minutes)
        return made

    def plain(self) -> dict[str, Any]:
        return {
            "first": self.first,
            "last": self.last,
            "at_last": np.array(list(self.at_last.elements()), np.uint64),
            "minutes": np.array(list(self.minutes), np.int64),
            "counts": np.array([count for count, _ in self.minutes.values()], np.int64),
            "sums": np.array([total for _, total in self.minutes.values()], np.uint64),
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> _Source:
        made = cls()
        made.first, made.last = plain["first"], plain["last"]
        made.at_last = Counter(plain["at_last"].tolist())
        pairs = zip(plain["counts"].tolist(), plain["sums"].tolist(), strict=True)
        made.minutes = dict(zip(plain["minutes"].tolist(), pairs, strict=True))
        return made


def _compare(name: str, known: _Source, found: _Source, reached: int) -> None:
    """Hold minutes that a capture has left behind against what was recorded in them, and forget them."""
    oldest = next(iter(known.minutes), 0)
    for minute in list(found.minutes):
        if reached // MINUTE_NS <= minute and reached <= known.last:
            continue
        told = found.minutes.pop(minute)
        partial = minute == found.first // MINUTE_NS and found.first > known.first
        if not partial and minute >= oldest and told != known.minutes.get(minute, (0, 0)):
            raise InputError(
                f"{name}: expected the messages that were recorded in the minute from {moment(minute * MINUTE_NS)}, "
                f"{known.minutes.get(minute, (0, 0))[0]:,} of them, found {told[0]:,} and not all the same; another "
                "recording of the same name goes to a folder of its own"
            )


def _by_source(messages: Messages) -> Iterator[tuple[str, Ints, Ints, Hashes]]:
    """Name, places, times and hashes of each source's messages."""
    hashes = _hashes(messages)
    for code in np.unique(messages.source_code).tolist():
        places: Ints = np.flatnonzero(messages.source_code == code)
        yield messages.source[code], places, messages.ts_recv[places], hashes[places]


def _hashes(messages: Messages) -> Hashes:
    """Of when a message came, its kind and its bytes."""
    seeds = messages.ts_recv.astype(np.uint64) * np.uint64(8) + messages.kind.astype(np.uint64)
    digest = xxhash.xxh3_64_intdigest
    pairs = zip(messages.payloads(), seeds.tolist(), strict=True)
    return np.fromiter((digest(payload, seed) for payload, seed in pairs), np.uint64, len(messages))


def _chosen(messages: Messages, keep: np.ndarray[Any, np.dtype[np.bool_]]) -> Messages:
    return Messages(
        messages.ts_recv[keep], messages.ingest_seq[keep], messages.kind[keep], messages.source,
        messages.source_code[keep], messages.url, messages.url_code[keep], messages.payload.filter(pa.array(keep)),
    )  # fmt: skip


def moment(ns: int) -> str:
    """Nanoseconds since 1970 as `2024-05-01 12:34:56 UTC`."""
    return f"{np.datetime64(ns, 'ns').astype('datetime64[s]')}".replace("T", " ") + " UTC"
