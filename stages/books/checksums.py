"""Whether a venue's checksum of a book is right, in the decimal places that the venue writes."""

from __future__ import annotations

from ..schemas import Scales
from .rule import BookRule, Levels
from .shelf import Ints

UNKNOWN, WRONG = -1, -2
"""Which of the candidates is right is not known yet; none of those that may be is."""

Side = tuple[Ints, Ints]
"""Prices and sizes, best first."""


def matching_places(rule: BookRule, bids: Side, asks: Side, scales: Scales, expected: int, known: int) -> int:
    """Which of `rule.checksum_places` gives the checksum `expected`; only `known` is tried where it is; else WRONG."""
    assert rule.checksum is not None
    for number, places in enumerate(rule.checksum_places):
        if known not in (UNKNOWN, number):
            continue
        written = [_in_places(side, scales, places) for side in (bids, asks)]
        if written[0] is not None and written[1] is not None and rule.checksum(written[0], written[1]) == expected:
            return number
    return WRONG


def _in_places(side: Side, scales: Scales, places: tuple[int, int]) -> Levels | None:
    """Levels as whole numbers of the last of these places; None where one has more."""
    columns = []
    for values, scale, wanted in zip(side, (scales.price, scales.size), places, strict=True):
        factor = 10 ** abs(wanted - scale)
        numbers: list[int] = values.tolist()
        if wanted >= scale:
            columns.append([number * factor for number in numbers])
        elif any(number % factor for number in numbers):
            return None
        else:
            columns.append([number // factor for number in numbers])
    return list(zip(*columns, strict=True))
