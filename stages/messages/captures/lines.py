"""Cuts the text of a file into blocks of whole lines and tells, in one sweep, where each line begins and ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Int64s: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Bytes: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]

BLOCK_BYTES = 1 << 20
"""Text looked at in one sweep."""
MAX_LINE_BYTES = 64 << 20
"""A line longer than this is left out and told: exchange listings reach 10 MB."""

_NEWLINE, _RETURN = 10, 13


@dataclass(frozen=True)
class Block:
    """Whole lines, blank ones left out: line `i` is `data[starts[i]:ends[i]]` and the file's line `numbers[i]`."""

    data: bytes
    starts: Int64s
    ends: Int64s
    numbers: Int64s
    ended: bool
    """Whether the last line has a line end; only the last of a file may lack it."""

    def line(self, at: int) -> bytes:
        return self.data[int(self.starts[at]) : int(self.ends[at])]

    def __len__(self) -> int:
        return len(self.starts)


def blocks(
    pieces: Iterable[bytes], left_out: Callable[[int, bytes], None], max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[Block]:
    """Blocks of the lines in `pieces`; `left_out` is told the number and beginning of a line that is too long."""
    held: list[bytes] = []
    held_bytes, number, skipping = 0, 1, False
    for piece in pieces:
        end = piece.rfind(b"\n") + 1
        if not end:
            held_bytes += len(piece)
            if not skipping:
                held.append(piece)
            if held_bytes > max_line_bytes and not skipping:
                left_out(number, held[0][:256])
                held, skipping = [], True
            continue
        whole, rest = piece[:end], piece[end:]
        if skipping:
            begin = whole.find(b"\n") + 1
            whole, skipping, number = whole[begin:], False, number + 1
        if whole:
            block, lines = _block(b"".join([*held, whole]) if held else whole, number, ended=True)
            number += lines
            if len(block):
                yield block
        held, held_bytes = [rest] if rest else [], len(rest)
    if held:
        block, _ = _block(b"".join(held), number, ended=False)
        if len(block):
            yield block


def _block(data: bytes, number: int, *, ended: bool) -> tuple[Block, int]:
    """The lines in `data`, and how many there are with the blank ones."""
    text: Bytes = np.frombuffer(data, np.uint8)
    ends: Int64s = np.flatnonzero(text == _NEWLINE)
    if not ended:
        ends = np.append(ends, len(data))
    starts = np.empty_like(ends)
    starts[0] = 0
    starts[1:] = ends[:-1] + 1
    lines = len(ends)
    numbers: Int64s = np.arange(number, number + lines, dtype=np.int64)
    returned = (ends > starts) & (text[np.maximum(ends, 1) - 1] == _RETURN)
    ends = ends - returned
    blank = ends == starts
    if blank.any():
        starts, ends, numbers = starts[~blank], ends[~blank], numbers[~blank]
    return Block(data, starts, ends, numbers, ended), lines
