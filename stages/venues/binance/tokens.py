"""Compiled readers of the pieces that compact JSON is made of: texts, whole numbers, decimals, levels of a book.

They are given the address of the first byte instead of an array: an array that is handed on is counted each time, which
took as long as the reading. Whoever calls them knows where the bytes end. What is compiled is kept on disk with
`scanning.py`, and made anew when that file changes: touch it after a change here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import int64, njit, types, uint64
from numba.extending import intrinsic

MOST_SYMBOLS = 4096
"""Pairs of source and symbol that one call tells apart; messages of further ones are left."""
SLOTS = 4 * MOST_SYMBOLS
_PLAIN = np.array([32 <= byte < 127 and byte not in b'"\\' for byte in range(256)])
_POWERS = 10 ** np.arange(19, dtype=np.int64)


def _byte_at(typing: Any, text: Any, place: Any) -> Any:
    """The byte at an address and a place behind it, as an int64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(builder.add(*args), ir.IntType(8).as_pointer())
        return builder.zext(builder.load(pointer), ir.IntType(64))

    return int64(types.int64, types.int64), generate


byte_at: Any = intrinsic(_byte_at)


@njit(cache=True)
def is_digit(byte: int) -> bool:
    return 48 <= byte <= 57


@njit(cache=True)
def is_word(text: int, begin: int, end: int, word: Any) -> bool:
    """Whether `byte_at(text, begin:end)` is the word."""
    if end - begin != len(word):
        return False
    for i in range(len(word)):
        if byte_at(text, begin + i) != word[i]:
            return False
    return True


@njit(cache=True)
def starts(text: int, begin: int, end: int, word: Any) -> bool:
    return begin + len(word) <= end and is_word(text, begin, begin + len(word), word)


@njit(cache=True)
def text_end(text: int, begin: int, end: int) -> int:
    """Where the quote is that ends a text of plain ASCII, -1 where it is no such text."""
    i = begin
    while i < end and _PLAIN[byte_at(text, i)]:
        i += 1
    return i if i < end and byte_at(text, i) == 34 else -1


@njit(cache=True)
def whole(text: int, begin: int, end: int) -> tuple[int, int]:
    """A number of at most 18 digits and where it ends, or -1 for the end."""
    value: Any = 0
    i = begin
    while i < end and is_digit(byte_at(text, i)):
        value = value * 10 + byte_at(text, i) - 48
        i += 1
    if i == begin or i - begin > 18 or (i - begin > 1 and byte_at(text, begin) == 48):
        return 0, -1
    return value, i


@njit(cache=True)
def decimal(text: int, begin: int, end: int, scale: int) -> tuple[int, int]:
    """Units of 10^-scale of the text that begins here and the place of the quote that ends it, or -1 for the place."""
    value: Any = 0
    i = begin
    while i < end and is_digit(byte_at(text, i)):
        value = value * 10 + byte_at(text, i) - 48
        i += 1
    digits = i - begin
    places = 0
    if i < end and byte_at(text, i) == 46:
        i += 1
        first = i
        while i < end and is_digit(byte_at(text, i)):
            value = value * 10 + byte_at(text, i) - 48
            i += 1
        places = i - first
        if not places:
            return 0, -1
    if not digits or digits + places > 18 or i >= end or byte_at(text, i) != 34:
        return 0, -1
    if places <= scale:
        return (value * _POWERS[scale - places], i) if value < _POWERS[18 - scale + places] else (0, -1)
    value, left = divmod(value, _POWERS[places - scale])
    return (value, i) if left == 0 else (0, -1)


@njit(cache=True)
def levels(
    text: int, begin: int, end: int, price_scale: int, size_scale: int, prices: Any, sizes: Any, count: int
) -> tuple[int, int]:
    """Levels `[["price","size"],..]` from an opening bracket on: how many there are now, and where they end or -1."""
    i = begin + 1
    if i < end and byte_at(text, i) == 93:
        return count, i + 1
    while i + 1 < end and byte_at(text, i) == 91 and byte_at(text, i + 1) == 34:
        price, i = decimal(text, i + 2, end, price_scale)
        if i < 0 or i + 2 >= end or byte_at(text, i + 1) != 44 or byte_at(text, i + 2) != 34:
            return count, -1
        size, i = decimal(text, i + 3, end, size_scale)
        if i < 0 or i + 2 >= end or byte_at(text, i + 1) != 93:
            return count, -1
        prices[count] = price
        sizes[count] = size
        count += 1
        if byte_at(text, i + 2) == 93:
            return count, i + 3
        if byte_at(text, i + 2) != 44:
            return count, -1
        i += 3
    return count, -1


@njit(cache=True)
def symbol_place(
    text: int, begin: int, end: int, source: int, at: int, slots: Any, symbols: Any, known: int
) -> tuple[int, int]:
    """The place of a symbol of a source in the list, and how many are listed now; -1 where the list is full.

    A row of `symbols` is source, where its text begins and ends, and which message was the first.
    """
    mixed = np.uint64(14695981039346656037) ^ np.uint64(source)
    for i in range(begin, end):
        mixed = (mixed ^ uint64(byte_at(text, i))) * np.uint64(1099511628211)
    slot = np.int64(mixed & np.uint64(SLOTS - 1))
    while slots[slot] >= 0:
        place = slots[slot]
        length = symbols[place, 2] - symbols[place, 1]
        if symbols[place, 0] == source and length == end - begin:
            same = True
            for i in range(length):
                if byte_at(text, begin + i) != byte_at(text, symbols[place, 1] + i):
                    same = False
                    break
            if same:
                return place, known
        slot = (slot + 1) & (SLOTS - 1)
    if known == MOST_SYMBOLS:
        return -1, known
    slots[slot] = known
    symbols[known, 0], symbols[known, 1], symbols[known, 2], symbols[known, 3] = source, begin, end, at
    return known, known + 1
