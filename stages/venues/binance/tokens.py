"""Compiled readers of the pieces that compact JSON is made of: texts, whole numbers, decimals, levels of a book."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

MOST_SYMBOLS = 4096
"""Pairs of source and symbol that one call tells apart; messages of further ones are left."""
SLOTS = 4 * MOST_SYMBOLS
_LIMIT = 10**18


@njit(cache=True)
def is_word(data: Any, begin: int, end: int, word: Any) -> bool:
    """Whether `data[begin:end]` is the word."""
    if end - begin != len(word):
        return False
    for i in range(len(word)):
        if data[begin + i] != word[i]:
            return False
    return True


@njit(cache=True)
def starts(data: Any, begin: int, end: int, word: Any) -> bool:
    return begin + len(word) <= end and is_word(data, begin, begin + len(word), word)


@njit(cache=True)
def text_end(data: Any, begin: int, end: int) -> int:
    """Where the quote is that ends a text of plain ASCII, -1 where it is no such text."""
    for i in range(begin, end):
        byte = data[i]
        if byte == 34:
            return i
        if byte < 32 or byte > 126 or byte == 92:
            return -1
    return -1


@njit(cache=True)
def whole(data: Any, begin: int, end: int) -> tuple[int, int]:
    """A number of at most 18 digits and where it ends, or -1 for the end."""
    value: Any = 0
    i = begin
    while i < end:
        digit = np.int64(data[i]) - 48
        if digit < 0 or digit > 9:
            break
        value = value * 10 + digit
        i += 1
    if i == begin or i - begin > 18 or (i - begin > 1 and data[begin] == 48):
        return 0, -1
    return value, i


@njit(cache=True)
def decimal(data: Any, begin: int, end: int, scale: int) -> tuple[int, int]:
    """Units of 10^-scale of the text that begins here and the place of the quote that ends it, or -1 for the place."""
    value: Any = np.int64(0)
    i = begin
    while i < end:
        digit = np.int64(data[i]) - 48
        if digit < 0 or digit > 9:
            break
        if i - begin >= 18:
            return 0, -1
        value = value * 10 + digit
        i += 1
    if i == begin or i >= end:
        return 0, -1
    places = 0
    if data[i] == 46:
        i += 1
        first = i
        while i < end:
            digit = np.int64(data[i]) - 48
            if digit < 0 or digit > 9:
                break
            if places < scale:
                if value >= _LIMIT // 10:
                    return 0, -1
                value = value * 10 + digit
                places += 1
            elif digit != 0:
                return 0, -1
            i += 1
        if i == first or i >= end:
            return 0, -1
    if data[i] != 34:
        return 0, -1
    while places < scale:
        if value >= _LIMIT // 10:
            return 0, -1
        value = value * 10
        places += 1
    return value, i


@njit(cache=True)
def levels(
    data: Any, begin: int, end: int, price_scale: int, size_scale: int, prices: Any, sizes: Any, count: int
) -> tuple[int, int]:
    """Levels `[["price","size"],..]` from an opening bracket on: how many there are now, and where they end or -1."""
    i = begin + 1
    if i < end and data[i] == 93:
        return count, i + 1
    while i + 1 < end and data[i] == 91 and data[i + 1] == 34:
        price, i = decimal(data, i + 2, end, price_scale)
        if i < 0 or i + 2 >= end or data[i + 1] != 44 or data[i + 2] != 34:
            return count, -1
        size, i = decimal(data, i + 3, end, size_scale)
        if i < 0 or i + 2 >= end or data[i + 1] != 93:
            return count, -1
        prices[count] = price
        sizes[count] = size
        count += 1
        if data[i + 2] == 93:
            return count, i + 3
        if data[i + 2] != 44:
            return count, -1
        i += 3
    return count, -1


@njit(cache=True)
def symbol_place(
    data: Any, begin: int, end: int, source: int, at: int, slots: Any, symbols: Any, known: int
) -> tuple[int, int]:
    """The place of a symbol of a source in the list, and how many are listed now; -1 where the list is full.

    A row of `symbols` is source, where its text begins and ends, and which message was the first.
    """
    mixed = np.uint64(14695981039346656037) ^ np.uint64(source)
    for i in range(begin, end):
        mixed = (mixed ^ np.uint64(data[i])) * np.uint64(1099511628211)
    slot = np.int64(mixed & np.uint64(SLOTS - 1))
    while slots[slot] >= 0:
        place = slots[slot]
        length = symbols[place, 2] - symbols[place, 1]
        if symbols[place, 0] == source and length == end - begin:
            same = True
            for i in range(length):
                if data[begin + i] != data[symbols[place, 1] + i]:
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
