"""Merges the messages of many sources by the time they were received, a window at a time, in bounded memory.

At equal times a source that comes first in the list comes first, and a source's own order never changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from .format import Codes, Kinds
from .lines import Int64s
from .source import Piece

Opener = Callable[[], Iterator[Piece]]


@dataclass(frozen=True)
class Merged:
    """Messages of any sources in their one order."""

    ts_recv: Int64s
    kind: Kinds
    url_code: Codes
    source_code: np.ndarray[Any, np.dtype[np.int16]]
    payload: pa.LargeBinaryArray


def merged(sources: Sequence[tuple[int, Opener]]) -> Iterator[Merged]:
    """Of sources given by when they begin (ns; no message may be earlier) and how they are opened.

    A source is opened when its time has come; one piece of each open source is held.
    """
    waiting = sorted(range(len(sources)), key=lambda rank: (sources[rank][0], rank), reverse=True)
    opened: dict[int, Iterator[Piece]] = {}
    heads: dict[int, Piece] = {}

    def advance(rank: int) -> None:
        piece = next(opened[rank], None)
        if piece is None:
            del opened[rank]
            heads.pop(rank, None)
        else:
            heads[rank] = piece

    try:
        while waiting or heads:
            while waiting and (not heads or sources[waiting[-1]][0] <= _horizon(heads)[0]):
                rank = waiting.pop()
                opened[rank] = sources[rank][1]()
                advance(rank)
            if not heads:
                continue
            until, last = _horizon(heads)
            parts: list[Piece] = []
            for rank in sorted(heads):
                head = heads[rank]
                stop = int(np.searchsorted(head.ts_recv, until, side="right" if rank <= last else "left"))
                if stop:
                    parts.append(head.part(0, stop))
                if stop == len(head):
                    advance(rank)
                elif stop:
                    heads[rank] = head.part(stop, len(head))
            yield _woven(parts)
    finally:
        for pieces in opened.values():
            pieces.close()  # type: ignore[attr-defined]


def _horizon(heads: dict[int, Piece]) -> tuple[int, int]:
    """Up to which time and, at that time, up to which source the order of what is held is final."""
    return min((int(head.ts_recv[-1]), rank) for rank, head in heads.items())


def _woven(parts: Sequence[Piece]) -> Merged:
    def joined(of: Callable[[Piece], Any]) -> Any:
        return of(parts[0]) if len(parts) == 1 else np.concatenate([of(part) for part in parts])

    ts_recv, kind, url_code = joined(lambda p: p.ts_recv), joined(lambda p: p.kind), joined(lambda p: p.url_code)
    source_code = joined(lambda p: np.full(len(p), p.source_code, np.int16))
    if len(parts) == 1:
        return Merged(ts_recv, kind, url_code, source_code, parts[0].payload)
    order = np.argsort(ts_recv, kind="stable")
    payload = pa.concat_arrays([part.payload for part in parts]).take(pa.array(order))
    return Merged(ts_recv[order], kind[order], url_code[order], source_code[order], payload)
