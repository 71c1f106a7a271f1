"""A compiled look at joined payloads: trades, best quotes and depth in the form they nearly always have, nothing else.

What is taken here is what the structures of `wire.py` would take, with the same values; whatever is written in another
way (spaces, escapes, keys twice, numbers of 19 digits, a price that does not fit) is left for them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import int64, njit, types, uint64

from .tokens import SLOTS, byte_at, decimal, is_word, levels, starts, symbol_place, text_end, whole

LEFT, TRADE, AGGREGATE, DEPTH, QUOTE = 0, 1, 2, 3, 4
"""What a message was found to be; LEFT is for `wire.py`."""

FIELDS = 12
(ID, TIME, FIRST, PREVIOUS, PRICE, SIZE, ASK_PRICE, ASK_SIZE, SIDE, SYMBOL, BEGIN, END) = range(FIELDS)
"""Rows of the table of fields, which has a column for each message; which of them it has depends on what it is.

ID is the trade's or the update's; TIME as sent, -1 for none; PREVIOUS -1 for none; SIDE 1 or 2, and for depth where
the bids end; SYMBOL a place in the list of symbols; BEGIN and END a range of levels.
"""
_WORDS = [b"trade", b"aggTrade", b"depthUpdate", b"bookTicker", b"MARKET", b'{"stream":"', b',"data":', b"@depth"]
_TRADE, _AGG_TRADE, _DEPTH_UPDATE, _BOOK_TICKER, _MARKET, _STREAM, _DATA, _WHOLE_DEPTH = (
    np.frombuffer(word, np.uint8) for word in _WORDS
)
_TRUE, _FALSE, _NULL = (np.frombuffer(word, np.uint8) for word in (b"true", b"false", b"null"))
_MOST_TIME = 9 * 10**15
_LONGEST_SYMBOL = 64

_KEYS = 64
"""Places of keys: 0 is `pu`, a letter has its code less 64, the last is for keys that no structure has."""
_PU, _OTHER = 0, _KEYS - 1
_PU_CODE = 256 * ord("p") + ord("u")
_UPPER_A, _UPPER_B, _UPPER_E, _UPPER_T, _UPPER_U, _UPPER_X = (ord(letter) - 64 for letter in "ABETUX")
_A, _B, _E, _M, _P, _Q, _S, _T, _U = (ord(letter) - 64 for letter in "abempqstu")


def _bits(*places: int) -> Any:
    return np.uint64(sum(1 << place for place in places))


_TRADE_TEXTS, _TRADE_NUMBERS = _bits(_S, _P, _Q), _bits(_T, _UPPER_T)
_AGG_NUMBERS, _TRADE_WORDS = _bits(_A, _UPPER_T), _bits(_M)
_TICKER_TEXTS, _TICKER_NUMBERS = _bits(_S, _A, _UPPER_A, _B, _UPPER_B), _bits(_U)
_DEPTH_TEXTS, _DEPTH_NUMBERS, _DEPTH_LEVELS = _bits(_S), _bits(_UPPER_E, _UPPER_U, _U), _bits(_A, _B)
_PRICES, _DECIMALS = _bits(_P, _A, _B), _bits(_P, _A, _B, _Q, _UPPER_A, _UPPER_B)
_TYPE, _ORDER, _TIMES = _bits(_E), _bits(_UPPER_X), _bits(_UPPER_T, _UPPER_E)
_MATCHED, _SENT, _CHAIN, _ASKS, _BIDS = _bits(_UPPER_T), _bits(_UPPER_E), _bits(_PU), _bits(_A), _bits(_B)

_BYTES = types.Array(types.uint8, 1, "C", readonly=True)
_PLACES = types.Array(types.int64, 1, "C", readonly=True)
_WHETHER = types.Array(types.boolean, 1, "C", readonly=True)
_OUT, _TABLE = types.int64[::1], types.int64[:, ::1]


_TEXTS, _NUMBERS, _TRUES, _FALSES, _LEVELS = 0, 1, 2, 3, 4
"""Kinds of values; of each, `seen` has the keys that had one."""


@njit(inline="always")
def _object(
    text: int,
    begin: int,
    end: int,
    price_scale: int,
    size_scale: int,
    prices: Any,
    sizes: Any,
    count: int,
    found: Any,
    seen: Any,
) -> int:
    """Read one flat object from `begin` to `end`; how many levels there are now, or -1 where it is none."""
    seen[:] = 0
    keys = uint64(0)
    i = begin
    if i >= end or byte_at(text, i) != 123:
        return -1
    while True:
        # A key of one or two characters, as all have.
        if i + 5 >= end or byte_at(text, i + 1) != 34:
            return -1
        close = text_end(text, i + 2, min(i + 5, end))
        key = byte_at(text, i + 2)
        if close == i + 3:
            place = key - 64 if 64 < key < 127 else _OTHER
        elif close == i + 4:
            place = _PU if key * 256 + byte_at(text, i + 3) == _PU_CODE else _OTHER
        else:
            return -1
        bit = uint64(1) << uint64(place)
        if keys & bit and place != _OTHER:
            return -1
        keys |= bit
        i = close + 2
        if i >= end or byte_at(text, close + 1) != 58:
            return -1
        byte = byte_at(text, i)
        if byte == 34:
            if bit & _DECIMALS:
                found[place, 0], close = decimal(text, i + 1, end, price_scale if bit & _PRICES else size_scale)
            else:
                close = text_end(text, i + 1, end)
                found[place, 0], found[place, 1] = i + 1, close
            if close < 0:
                return -1
            seen[_TEXTS] |= bit
            i = close + 1
        elif byte >= 48 and byte <= 57:
            found[place, 0], i = whole(text, i, end)
            seen[_NUMBERS] |= bit
        elif byte == 91 and ((place == _B and not keys & _ASKS) or (place == _A and keys & _BIDS)):
            count, i = levels(text, i, end, price_scale, size_scale, prices, sizes, count)
            found[place, 0] = count
            seen[_LEVELS] |= bit
        elif starts(text, i, end, _TRUE):
            seen[_TRUES] |= bit
            i += 4
        elif starts(text, i, end, _FALSE):
            seen[_FALSES] |= bit
            i += 5
        elif place == _OTHER and starts(text, i, end, _NULL):
            i += 4
        else:
            return -1
        if i < 0 or i >= end:
            return -1
        if byte_at(text, i) == 125:
            return count if i + 1 == end else -1
        if byte_at(text, i) != 44:
            return -1


@njit(inline="always")
def _kind(text: int, found: Any, seen: Any, whole_book: bool, fields: Any, at: int) -> int:
    """What an object is, with its fields in column `at`; LEFT where one is missing, or of another kind."""
    texts, numbers = seen[_TEXTS], seen[_NUMBERS]
    keys = texts | numbers | seen[_TRUES] | seen[_FALSES] | seen[_LEVELS]
    fields[TIME, at] = found[_UPPER_T, 0] if numbers & _MATCHED else -1
    if keys & _TYPE and not texts & _TYPE:
        return LEFT
    begin, close = found[_E, 0], found[_E, 1]
    typed = (keys & _TYPE) != 0
    length = close - begin if typed else 0
    is_trade = length == 5 and is_word(text, begin, close, _TRADE)
    if is_trade or (length == 8 and is_word(text, begin, close, _AGG_TRADE)):
        needed = _TRADE_NUMBERS if is_trade else _AGG_NUMBERS
        if texts & _TRADE_TEXTS != _TRADE_TEXTS or numbers & needed != needed:
            return LEFT
        if not (seen[_TRUES] | seen[_FALSES]) & _TRADE_WORDS or fields[TIME, at] >= _MOST_TIME:
            return LEFT
        if keys & _ORDER and not (texts & _ORDER and is_word(text, found[_UPPER_X, 0], found[_UPPER_X, 1], _MARKET)):
            return LEFT
        fields[ID, at] = found[_T if is_trade else _A, 0]
        fields[SIDE, at] = 2 if seen[_TRUES] & _TRADE_WORDS else 1
        fields[PRICE, at], fields[SIZE, at] = found[_P, 0], found[_Q, 0]
        return TRADE if is_trade else AGGREGATE
    # Times may be missing here, but where there are some they are numbers.
    if keys & _TIMES != numbers & _TIMES:
        return LEFT
    if numbers & _SENT:
        if found[_UPPER_E, 0] >= _MOST_TIME:
            return LEFT
        if fields[TIME, at] < 0:
            fields[TIME, at] = found[_UPPER_E, 0]
    fields[ID, at] = found[_U, 0]
    if fields[TIME, at] >= _MOST_TIME:
        return LEFT
    if length == 11 and is_word(text, begin, close, _DEPTH_UPDATE):
        if not whole_book or not texts & _DEPTH_TEXTS or seen[_LEVELS] != _DEPTH_LEVELS:
            return LEFT
        if numbers & _DEPTH_NUMBERS != _DEPTH_NUMBERS or keys & _CHAIN != numbers & _CHAIN:
            return LEFT
        fields[FIRST, at] = found[_UPPER_U, 0]
        fields[PREVIOUS, at] = found[_PU, 0] if numbers & _CHAIN else -1
        fields[SIDE, at] = found[_B, 0]
        return DEPTH
    if not typed or is_word(text, begin, close, _BOOK_TICKER):
        if texts & _TICKER_TEXTS != _TICKER_TEXTS or not numbers & _TICKER_NUMBERS:
            return LEFT
        fields[PRICE, at], fields[SIZE, at] = found[_B, 0], found[_UPPER_B, 0]
        fields[ASK_PRICE, at], fields[ASK_SIZE, at] = found[_A, 0], found[_UPPER_A, 0]
        return QUOTE if fields[SIZE, at] and fields[ASK_SIZE, at] else LEFT
    return LEFT


@njit(
    [
        types.int64(
            _BYTES, _PLACES, _WHETHER, _WHETHER, _PLACES, int64, int64, types.int8[::1], _TABLE, _OUT, _OUT, _TABLE
        )
    ],
    nogil=True,
    cache=True,
)
def scan(
    data: Any,
    offsets: Any,
    looked_at: Any,
    plain_depth: Any,
    source: Any,
    price_scale: int,
    size_scale: int,
    kinds: Any,
    fields: Any,
    prices: Any,
    sizes: Any,
    symbols: Any,
) -> int:
    """Fill `kinds` and `fields` (a column for each message), levels and symbols; return how many symbols there are.

    `looked_at` says of each message whether it may be taken, `plain_depth` whether one without a stream's name, if
    it is of depth, is of the whole book.
    """
    text = int64(data.ctypes.data)
    slots = np.full(SLOTS, -1, np.int64)
    found = np.empty((_KEYS, 2), np.int64)  # where a text begins and ends, or the value of a number
    seen = np.empty(5, np.uint64)
    known, count = 0, 0
    for at in range(len(offsets) - 1):
        kinds[at] = LEFT
        begin, end = offsets[at], offsets[at + 1]
        if not looked_at[at] or begin == end:
            continue
        whole_book = plain_depth[at]
        if starts(text, begin, end, _STREAM):
            name = begin + len(_STREAM)
            close = text_end(text, name, end)
            if close < 0 or not starts(text, close + 1, end, _DATA) or byte_at(text, end - 1) != 125:
                continue
            mark = name
            while mark < close and byte_at(text, mark) != 64:
                mark += 1
            whole_book = starts(text, mark, close, _WHOLE_DEPTH) and byte_at(text, name) != 33
            whole_book = whole_book and (mark + 6 == close or byte_at(text, mark + 6) == 64)
            begin = close + 1 + len(_DATA)
            end -= 1
        after = _object(text, begin, end, price_scale, size_scale, prices, sizes, count, found, seen)
        if after < 0:
            continue
        fields[BEGIN, at], fields[END, at] = count, after
        kind = _kind(text, found, seen, whole_book, fields, at)
        if kind == LEFT:
            continue
        if not 0 < found[_S, 1] - found[_S, 0] <= _LONGEST_SYMBOL:
            continue
        place, known = symbol_place(text, found[_S, 0], found[_S, 1], source[at], at, slots, symbols, known)
        if place < 0:
            continue
        fields[SYMBOL, at] = place
        kinds[at] = kind
        if kind == DEPTH:
            count = after
    return known
