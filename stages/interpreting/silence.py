"""Channels and connections of which nothing comes any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from stages.messages import MessageKind, Messages
from stages.schemas import Records

Ints = np.ndarray[Any, np.dtype[np.int64]]
Key = tuple[str, str | None]
"""A kind of record and an instrument; or a connection and None."""


class Silence:
    """Tells a `stale` event at the first message of any kind that is later than the silence may last.

    Rows count, of whatever kind but quality events; heartbeats and replies do not. So does opening a connection, for
    the connection. One silence is told once, however long it lasts.
    """

    def __init__(self, stale_ns: int | None) -> None:
        self.stale_ns = stale_ns
        self._now = 0
        self._last: dict[Key, int] = {}
        self._told: set[Key] = set()

    def follow(self, messages: Messages, received: Sequence[pa.RecordBatch], records: Records) -> list[str]:
        """Take the rows that messages left; the connections that have fallen silent and still are."""
        if self.stale_ns is None or not len(messages):
            return []
        times = np.maximum.accumulate(np.maximum(messages.ts_recv, self._now))
        self._now = int(times[-1])
        came, lost = _came(messages, received), _lost(messages)
        fallen = []
        for key in sorted({*self._last, *came}, key=str):
            before = key in self._told
            self._follow(key, came.get(key, _NONE), lost.get(key, _NONE), times, records)
            if key[1] is None and key in self._told and not before:
                fallen.append(key[0])
        return fallen

    def _follow(self, key: Key, came: Ints, lost: Ints, times: Ints, records: Records) -> None:
        assert self.stale_ns is not None
        since = self._last.get(key)
        if since is not None and len(came) and not len(lost) and key not in self._told:
            stamps = np.concatenate([[since], times[came]])
            if np.diff(stamps).max() <= self.stale_ns:
                since, came = int(stamps[-1]), _NONE
        for at, is_lost in sorted([*((at, False) for at in came.tolist()), *((at, True) for at in lost.tolist())]):
            self._tell(key, since, at, times, records)
            self._told.discard(key)
            since = None if is_lost else int(times[at])
        if self._tell(key, since, len(times) - 1, times, records):
            self._told.add(key)
        if since is None:
            self._last.pop(key, None)
        else:
            self._last[key] = since

    def _tell(self, key: Key, since: int | None, until: int, times: Ints, records: Records) -> bool:
        """Whether a silence that nobody was told of yet has become too long by the message at `until`."""
        if since is None or key in self._told:
            return key in self._told
        assert self.stale_ns is not None
        at = int(np.searchsorted(times, since + self.stale_ns, side="right"))
        if at > until:
            return False
        channel, instrument = key
        said = f"no {channel} came" if instrument else "nothing came by this connection"
        records.quality(
            at, "stale", channel=channel, instrument_id=instrument, gap_start=since, gap_end=int(times[at]),
            detail=f"{said} for longer than {self.stale_ns / 1e9:g} s",
        )  # fmt: skip
        return True

    def snapshot(self) -> dict[str, Any]:
        keys = list(self._last)
        return {
            "now": self._now,
            "keys": [list(key) for key in keys],
            "last": [self._last[key] for key in keys],
            "told": [key in self._told for key in keys],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        keys = [(channel, instrument) for channel, instrument in state["keys"]]
        self._now, self._last = state["now"], dict(zip(keys, state["last"], strict=True))
        self._told = {key for key, told in zip(keys, state["told"], strict=True) if told}


def _came(messages: Messages, received: Sequence[pa.RecordBatch]) -> dict[Key, Ints]:
    """Which messages brought something of what."""
    found: dict[Key, Ints] = {}
    opened = np.flatnonzero(messages.kind == MessageKind.OPENED)
    brought = [opened]
    for batch in received:
        kind = batch.schema.metadata[b"record"].decode()
        at = np.searchsorted(messages.ingest_seq, batch.column("ingest_seq").to_numpy())
        brought.append(at)
        instruments = batch.column("instrument_id")
        codes = np.asarray(instruments.indices)
        for code in np.unique(codes).tolist():
            found[kind, instruments.dictionary[code].as_py()] = np.unique(at[codes == code])
    whole = np.unique(np.concatenate(brought))
    whole = whole[messages.kind[whole] != MessageKind.RESPONSE]
    sources = messages.source_code[whole]
    for code in np.unique(sources).tolist():
        found[messages.source[code], None] = whole[sources == code]
    return found


def _lost(messages: Messages) -> dict[Key, Ints]:
    """Where connections were closed."""
    closed = np.flatnonzero(messages.kind == MessageKind.CLOSED)
    sources = messages.source_code[closed]
    return {(messages.source[code], None): closed[sources == code] for code in np.unique(sources).tolist()}


_NONE: Ints = np.zeros(0, np.int64)
