"""A run of messages as columns, whose payloads lie together so that compiled scanners read them where they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from stages.schemas import NS_UTC, Names

from .message import MESSAGE, MessageKind, RawMessage


class Joined(NamedTuple):
    """Payloads one after another: message i is `text[offsets[i]:offsets[i + 1]]`; both arrays are read-only."""

    text: np.ndarray[Any, np.dtype[np.uint8]]
    offsets: np.ndarray[Any, np.dtype[np.int64]]


class Messages:
    """A run of messages of any length; immutable, and so are its arrays.

    `source` and `url` are names, `source_code` (int16) and `url_code` (int32) the place of each message's in them.
    """

    __slots__ = ("ingest_seq", "kind", "payload", "source", "source_code", "ts_recv", "url", "url_code")

    def __init__(
        self,
        ts_recv: Any,
        ingest_seq: Any,
        kind: Any,
        source: list[str],
        source_code: Any,
        url: list[str],
        url_code: Any,
        payload: pa.BinaryArray | pa.LargeBinaryArray,
    ) -> None:
        self.ts_recv: np.ndarray[Any, np.dtype[np.int64]] = np.asarray(ts_recv, np.int64)
        self.ingest_seq: np.ndarray[Any, np.dtype[np.uint64]] = np.asarray(ingest_seq, np.uint64)
        self.kind: np.ndarray[Any, np.dtype[np.int8]] = np.asarray(kind, np.int8)
        self.source = source
        self.source_code: np.ndarray[Any, np.dtype[np.int16]] = np.asarray(source_code, np.int16)
        self.url = url
        self.url_code: np.ndarray[Any, np.dtype[np.int32]] = np.asarray(url_code, np.int32)
        self.payload = payload

    @classmethod
    def of(cls, messages: Iterable[RawMessage]) -> Messages:
        """A run of single messages; copies their payloads once."""
        rows = list(messages)
        sources, urls = Names(), Names()
        return cls(
            [row.ts_recv for row in rows],
            [row.ingest_seq for row in rows],
            [row.kind for row in rows],
            sources.names,
            [sources.code(row.source) for row in rows],
            urls.names,
            [urls.code(row.url) for row in rows],
            pa.array([row.payload for row in rows], pa.large_binary()),
        )

    @classmethod
    def of_payloads(
        cls,
        payloads: Sequence[bytes] | pa.Array,
        ts_recv: Any,
        *,
        first_seq: int = 0,
        kind: Any = MessageKind.RECEIVED,
        source: str = "",
        url: str = "",
    ) -> Messages:
        """Messages of one connection or file, numbered from `first_seq`; `kind` is one for all or one for each."""
        count = len(payloads)
        return cls(
            ts_recv,
            np.arange(first_seq, first_seq + count, dtype=np.uint64),
            np.broadcast_to(np.asarray(kind, np.int8), count),
            [source],
            np.zeros(count, np.int16),
            [url],
            np.zeros(count, np.int32),
            payloads if isinstance(payloads, pa.Array) else pa.array(payloads, pa.large_binary()),
        )

    @classmethod
    def from_batch(cls, batch: pa.RecordBatch) -> Messages:
        """Messages of a batch in the schema MESSAGE; shares the memory of its payloads."""
        source, url = batch.column("source_id"), batch.column("url")
        return cls(
            batch.column("ts_recv").cast(pa.int64()).to_numpy(zero_copy_only=False),
            batch.column("ingest_seq").to_numpy(),
            batch.column("kind").to_numpy(),
            source.dictionary.to_pylist(),
            source.indices.to_numpy(),
            url.dictionary.to_pylist(),
            url.indices.to_numpy(),
            batch.column("payload"),
        )

    def to_batch(self) -> pa.RecordBatch:
        """The same in the schema MESSAGE; shares the memory of the payloads, which may be 2 GiB together."""
        arrays = [
            pa.array(self.ts_recv).view(NS_UTC),
            pa.array(self.ingest_seq),
            pa.DictionaryArray.from_arrays(pa.array(self.source_code), pa.array(self.source, pa.utf8())),
            pa.array(self.kind),
            pa.DictionaryArray.from_arrays(pa.array(self.url_code), pa.array(self.url, pa.utf8())),
            self.payload if self.payload.type == pa.binary() else self.payload.cast(pa.binary()),
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=MESSAGE)

    def __len__(self) -> int:
        return len(self.ts_recv)

    def __iter__(self) -> Iterator[RawMessage]:
        columns = (self.ts_recv, self.ingest_seq, self.kind, self.source_code, self.url_code)
        lists = [column.tolist() for column in columns]
        for ts, seq, kind, source, url, payload in zip(*lists, self.payloads(), strict=True):
            yield RawMessage(ts, seq, MessageKind(kind), self.source[source], self.url[url], payload)

    def payloads(self) -> list[bytes]:
        """Every payload as bytes of its own, which is a copy."""
        found: list[bytes] = self.payload.to_pylist()
        return found

    def raw(self, at: int) -> bytes:
        """One payload."""
        found: bytes = self.payload[at].as_py()
        return found

    def joined(self) -> Joined:
        """All payloads without copying them."""
        payload = self.payload if self.payload.type == pa.large_binary() else self.payload.cast(pa.large_binary())
        _, places, data = payload.buffers()
        if not len(payload):
            return Joined(np.zeros(0, np.uint8), np.zeros(1, np.int64))
        offsets = np.frombuffer(places, np.int64)[payload.offset : payload.offset + len(payload) + 1]
        text = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)
        return Joined(text, offsets)

    def slice(self, start: int, stop: int | None = None) -> Messages:
        """The messages from `start` to before `stop`; shares memory with this run."""
        part = slice(start, len(self) if stop is None else stop)
        return Messages(
            self.ts_recv[part],
            self.ingest_seq[part],
            self.kind[part],
            self.source,
            self.source_code[part],
            self.url,
            self.url_code[part],
            self.payload[part],
        )

    @classmethod
    def concat(cls, runs: Sequence[Messages]) -> Messages:
        """One run of several, in the order given; copies payloads unless there is only one."""
        if len(runs) == 1:
            return runs[0]
        sources, urls = Names(), Names()
        source_codes = [_recoded(run.source, run.source_code, sources) for run in runs]
        url_codes = [_recoded(run.url, run.url_code, urls) for run in runs]
        wide = [run.payload.cast(pa.large_binary()) for run in runs]
        return cls(
            _joined([run.ts_recv for run in runs]),
            _joined([run.ingest_seq for run in runs]),
            _joined([run.kind for run in runs]),
            sources.names,
            _joined(source_codes),
            urls.names,
            _joined(url_codes),
            pa.concat_arrays(wide) if wide else pa.array([], pa.large_binary()),
        )


def _joined(arrays: Sequence[np.ndarray[Any, Any]]) -> Any:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int64)


def _recoded(names: list[str], codes: np.ndarray[Any, Any], known: Names) -> np.ndarray[Any, Any]:
    """Codes into `names` as codes into `known`."""
    if not names:
        return codes
    places = np.array([known.code(name) for name in names], codes.dtype)
    found: np.ndarray[Any, Any] = places[codes]
    return found
