"""Markets made to hurt: bars that gap, halt, stand still and touch levels exactly, and strategies without sense."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from portfolio_bars import MIDNIGHT, MINUTE
from portfolio_oracle import Number, OracleBar, Rules

PART, PERCENT = 64, 100
"""Offsets and exit levels are multiples of 1/64 (or of a percent) and closes multiples of 64 (or 100) ticks: so levels
are ticks, which bars touch exactly. Of 64 and ticks that are powers of two, floats hold all without rounding."""
BPS = 10_000
TICKS = (1.0, 2.0**-20, 2.0**20, 0.125)
CENT = Fraction(1, 100)


def ugly_bars(
    random: Random, count: int, *, tick: Number = 1.0, part: int = PART, below: int = 0, rough: bool = False
) -> list[OracleBar]:
    """Bars of one instrument, as many as asked for.

    `below` is taken off every price, so that some are 0 or less; `rough` ones have all digits a float has, none of
    which is that of a level.
    """
    bars: list[OracleBar] = []
    last, at, single = 100 * part, MIDNIGHT, random.choice((0.0, 0.1, 0.5))
    for _ in range(count):
        at += MINUTE * random.choice((0, 0, 0, 0, 1, 5))
        first = last if random.random() < 0.6 else _level(random, last, part)
        close = max(part, last + part * random.choice((-9, -3, -2, -1, -1, 0, 0, 1, 1, 2, 3, 9)))
        inside = [first, close, *(_level(random, random.choice((last, first, close)), part) for _ in range(2))]
        prices = (first, max(inside), max(1, min(inside)), close)
        volume: float | None = random.choice((1.0, 1.0, 3.5, None))
        chance, empty = random.random(), False
        if chance < single:
            prices = (close,) * 4
        elif chance < single + 0.08:  # nobody traded, yet the price moved
            volume = 0.0
        elif chance < single + 0.16:  # a halt: the last price is carried
            prices, volume, empty, close = (last,) * 4, random.choice((0.0, None, 2.0)), True, last
        formed = random.choice((None, 0.0, 2.0**-12, 2.0**-10, 2.0**-9, 2.0**-6)) if len(bars) > 3 else None
        given: list[Number] = [(price - below) * tick for price in prices]
        if rough:
            given = _roughened(random, *map(float, given))
        bars.append(OracleBar(*given, at, at + MINUTE, volume, empty, formed))
        last, at = close, at + MINUTE
    return bars


def _roughened(random: Random, first: float, high: float, low: float, close: float) -> list[Number]:
    """Each price moved a little by itself; one price stays one price."""
    if high == low:
        return [high * (1 + random.random() * 2.0**-12)] * 4
    moved = [price * (1 + random.random() * 2.0**-12) for price in (first, high, low, close)]
    return [moved[0], max(moved), min(moved), moved[3]]


def _level(random: Random, price: int, part: int) -> int:
    """A price near this one, most often just where an order or an exit may wait."""
    away = random.choice((0, 1, 2, 4, 8)) * (price // part)
    return max(1, price + random.choice((-1, 1)) * away + random.choice((0, 0, 0, 0, -1, 1)))


def ugly_targets(random: Random, count: int, *, steady: float = 0.5) -> list[float | None]:
    """Targets that stay, flip, shrink, grow and go silent."""
    wants = random.choice(
        ((1.0, 0.0), (1.0, -1.0), (1.0, 0.5, 2.0), (1.0, 0.0, -1.0, 0.5, -0.25, 2.0, -0.0), (1.0,), (-1.0, 0.0))
    )
    silent = random.choice((0.0, 0.3, 0.8))
    targets: list[float | None] = []
    target: float | None = None
    for _ in range(count):
        if target is None or random.random() > steady:
            target = random.choice(wants)
        targets.append(None if random.random() < silent else target)
    return targets


def several(random: Random, names: int, count: int, tick: float) -> list[list[OracleBar]]:
    """Bars of several instruments on one clock, each of which misses some minutes the others have."""
    found = []
    for _ in range(names):
        bars = ugly_bars(random, count, tick=tick)
        places = sorted(random.sample(range(count + count // 3), count))
        starts = [MIDNIGHT + place * MINUTE for place in places]
        found.append([bar._replace(start=start, end=start + MINUTE) for bar, start in zip(bars, starts, strict=True)])
    return found


def any_rules(random: Random, part: int = PART) -> Rules:
    """A combination of everything `fills`, `sizing` and `exits` can say."""
    shares = [Fraction(times, part) for times in (1, 2, 4)]
    order = random.choice(("market", "market", "limit", "stop"))
    waits = order != "market"
    words: dict[str, object] = {
        "quantity": random.choice((1.0, 0.5, 3.0, 0.75)),
        "start_equity": random.choice((100_000.0, 1_000.0, 4096.0)),
        "at": "next_open" if waits else random.choice(("next_open", "close")),
        "order": order,
        "offset_bps": BPS * random.choice((0, *shares)) if waits else 0.0,
        "expires_bars": random.choice((None, None, 1, 2, 5)) if waits else None,
        "touch": random.choice(("through", "fill")),
        "fee_bps": BPS * random.choice((0.0, 2.0**-10, -(2.0**-12), 2.0**-8)),
        "fee_per_unit": random.choice((0.0, 0.0, 0.5)),
        "fee_minimum": random.choice((0.0, 0.0, 8.0)),
        "slippage_bps": BPS * random.choice((0.0, 0.0, 2.0**-10)),
        "stop_loss": random.choice((None, None, *shares)),
        "take_profit": random.choice((None, None, *shares)),
        "trailing_stop": random.choice((None, None, *shares)),
        "intrabar": random.choice(("worst", "best")),
        "reenter": random.choice(("on_change", "at_once")),
        "by": random.choice(("quantity", "quantity", "equity", "weight", "volatility")),
        "share": random.choice((1.0, 0.5, 0.3, 3.0, 20.0)),
        "band": random.choice((0.0, 1 / 64, 0.1)),
        "volatility": random.choice((0.2, 0.5)),
        "n": random.choice((2, 20)),
        "max_leverage": random.choice((1.0, 0.7, 2.0, 20.0)),
        "calendar": random.choice(("crypto", "xnys")),
        "lot": random.choice((0, 0, 0.25, 1, Fraction(1, 10))),
    }
    return Rules(**words)  # type: ignore[arg-type]
