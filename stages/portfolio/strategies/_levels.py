"""When a number computed in doubles is at a level: what is exactly there in decimals must not be beyond it by a bit."""

from __future__ import annotations

from stages.portfolio.cross import ROUNDING

NEAR = 2.0**-24
"""How far a spread's score, or a hundredth of a strength index, may be from a level and is at it.

Their features divide by how much prices move, so that the rounding of a price, u = 2^-53 of it, grows by price over
movement; a kernel does not see that ratio. A price of seven digits, as 61800.20, which moves by its last digit turns
u into 2^-30, and a score at 2 that comes of some 28 such roundings (quotient, logarithm, mean, deviation) is off by
less than 2^-24. Finer prices may still be decided by a last bit.
"""


def near_price(level: float = 0.0) -> float:
    """The share of the price within which a close is at `level` deviations from its mean, or a return at its threshold.

    In doubles a close is off by u = 2^-53 of it, a mean by 2 u, a deviation by u of the price (each close's own; the
    mean's error cancels), and a band by one more: 4 + `level` in all, and `ROUNDING` is 8 u. The rest is for the sum
    of squares. The price is the close and its distance from the mean, together no less than the mean. As a score the
    same error is larger by price over deviation, so that no one share of a score would do. A return is off by 4 u of
    the quotient of its closes.
    """
    return ROUNDING * (1.0 + level)
