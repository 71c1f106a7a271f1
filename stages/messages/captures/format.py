"""What a capture format says of a block of lines: when each message came, which kind it is, and where it begins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from .lines import Block, Bytes, Int64s

UNREADABLE = -1
"""The kind of a line that is none of the format's."""
ASIDE = -2
"""The kind of a line that is no message: what a recorder writes of its configuration."""

Kinds: TypeAlias = np.ndarray[Any, np.dtype[np.int8]]
Codes: TypeAlias = np.ndarray[Any, np.dtype[np.int32]]
CodeOf: TypeAlias = Callable[[str], int]


@dataclass
class Headers:
    """One entry per line of a block."""

    ts_recv: Int64s
    """ns UTC, exactly as written; of no meaning where `kind` is negative."""
    kind: Kinds
    """A `MessageKind`, UNREADABLE or ASIDE."""
    url_code: Codes
    payload_at: Int64s
    """Where in the block's bytes the message begins; it ends with its line."""


class Reader(ABC):
    """Reads the lines of one source, in order; what it remembers from block to block is the URL it is connected to."""

    @abstractmethod
    def headers(self, block: Block) -> Headers: ...


class Format(ABC):
    """A way in which recorders write messages to text files, one per line."""

    name: ClassVar[str]
    looks_like: ClassVar[str]
    """How a line looks, for errors."""

    @abstractmethod
    def recognises(self, line: bytes) -> bool:
        """Whether a line, or its beginning, is of this format."""

    @abstractmethod
    def source_of(self, name: str) -> str:
        """What the source of a file is called, without what its recorder adds each time it begins another file."""

    @abstractmethod
    def reader(self, name: str, code_of: CodeOf) -> Reader:
        """A reader for the source whose first file is called `name`; URLs get their codes from `code_of`."""


def window(block: Block, at: Int64s, width: int) -> Bytes:
    """The `width` bytes from each place `at` on, as `width` rows, for sweeps across messages; zeros past the end."""
    text: Bytes = np.frombuffer(block.data, np.uint8)
    inside = len(text) - width
    every = np.lib.stride_tricks.sliding_window_view(text, width) if inside >= 0 else np.empty((0, width), np.uint8)
    if not len(at) or at[-1] <= inside:
        return np.ascontiguousarray(every[at].T)
    within = int(np.searchsorted(at, inside, side="right"))
    cells = np.zeros((len(at), width), np.uint8)
    cells[:within] = every[at[:within]]
    for row in range(within, len(at)):
        rest = text[at[row] : at[row] + width]
        cells[row, : len(rest)] = rest
    return np.ascontiguousarray(cells.T)


def numbers(digits: Bytes) -> Int64s:
    """The numbers that columns of decimal digits (values 0 to 9) say; of no meaning for columns with others."""
    total = np.zeros(digits.shape[1], np.int64)
    for row in digits:
        total *= 10
        total += row
    return total
