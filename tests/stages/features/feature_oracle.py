"""Features by their definition: plain Python over lists, one instrument at a time, exact where that can be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from stages.features.feature import Feature

Bars = Sequence[Mapping[str, float]]


def wanted(feature: Feature, bars: Bars) -> list[float]:
    """The feature after each bar of one instrument, NaN where it is undefined; pairs and ranks excepted."""
    results = _DEFINITIONS[feature.kind](feature, bars)
    return delayed(results, feature.lag)


def delayed(results: Sequence[float], lag: int) -> list[float]:
    """Each value becomes the one `lag` values before it; NaN stays and counts for nothing."""
    formed = [x for x in results if not math.isnan(x)]
    shifted = iter([math.nan] * min(lag, len(formed)) + formed[: len(formed) - lag if lag else None])
    return [math.nan if math.isnan(x) else next(shifted) for x in results]


def _windows(feature: Feature, bars: Bars, columns: Sequence[str], length: int, value: Any) -> list[float]:
    """`value` of the last `length` bars whose columns are finite; NaN on other bars and before there are so many."""
    seen: list[Mapping[str, float]] = []
    results = []
    for bar in bars:
        if not all(math.isfinite(bar[column]) for column in columns):
            results.append(math.nan)
            continue
        seen.append(bar)
        found = value(seen[-length:]) if len(seen) >= length else math.nan
        results.append(found if math.isfinite(found) else math.nan)
    return results


def _of_column(value: Any, more: int = 0) -> Any:
    def results(feature: Feature, bars: Bars) -> list[float]:
        def of(window: Bars) -> float:
            found: float = value(feature, [bar[feature.column] for bar in window])
            return found

        return _windows(feature, bars, [feature.column], feature.n + more, of)

    return results


def _deviation(values: Sequence[float]) -> float:
    exact = [Fraction(x) for x in values]
    mean = sum(exact) / len(exact)
    return math.sqrt(float(sum((x - mean) ** 2 for x in exact) / len(exact)))


def _score(feature: Feature, values: Sequence[float]) -> float:
    deviation = _deviation(values)
    mean = sum(map(Fraction, values)) / len(values)
    return float(Fraction(values[-1]) - mean) / deviation if deviation else math.nan


def _return(feature: Feature, values: Sequence[float]) -> float:
    return values[-1] / values[0] - 1.0 if values[0] else math.nan


def _vwap(feature: Feature, bars: Bars) -> list[float]:
    cleaned = [
        dict(bar, volume=bar["volume"] if bar["volume"] >= 0 else math.nan) for bar in bars
    ]  # below 0 is not known

    def value(window: Bars) -> float:
        total = sum(Fraction(bar["volume"]) for bar in window)
        worth = sum(Fraction(bar[feature.column]) * Fraction(bar["volume"]) for bar in window)
        return float(worth / total) if total else math.nan

    return _windows(feature, cleaned, [feature.column, "volume"], feature.n, value)


def _atr(feature: Feature, bars: Bars) -> list[float]:
    ranges: list[float] = []
    close, average, results = math.nan, math.nan, []
    for bar in bars:
        if not all(math.isfinite(bar[column]) for column in ("high", "low", "close")):
            results.append(math.nan)
            continue
        reaches = [bar["high"] - bar["low"]]
        if ranges:
            reaches += [abs(bar["high"] - close), abs(bar["low"] - close)]
        ranges.append(max(reaches))
        close = bar["close"]
        if len(ranges) == feature.n:
            average = sum(ranges) / feature.n
        elif len(ranges) > feature.n:
            average = (average * (feature.n - 1) + ranges[-1]) / feature.n
        results.append(average)
    return results


_DEFINITIONS: dict[str, Any] = {
    "stddev": _of_column(lambda feature, values: _deviation(values)),
    "zscore": _of_column(_score),
    "returns": _of_column(_return, more=1),
    "max": _of_column(lambda feature, values: max(values)),
    "min": _of_column(lambda feature, values: min(values)),
    "median": _of_column(lambda feature, values: float(np.quantile(values, 0.5))),
    "quantile": _of_column(lambda feature, values: float(np.quantile(values, feature.q))),
    "vwap": _vwap,
    "atr": _atr,
}


def crossing(feature: Feature, rows: Sequence[tuple[int, str, float]]) -> list[float]:
    """A pair's or a rank's value on each row (time, instrument, value), in the order of time; NaN where undefined."""
    if feature.kind == "rank":
        return delayed_each(rows, _ranks(feature, rows), feature.lag)
    results = [math.nan] * len(rows)
    for name in {row[1] for row in rows} - {feature.other}:
        mine = [(place, ts, x) for place, (ts, who, x) in enumerate(rows) if who == name and math.isfinite(x)]
        samples: list[tuple[float, float]] = []
        returns: list[tuple[float, float]] = []
        logs: list[float] = []
        for place, ts, x in mine:
            known = [y for when, who, y in rows if who == feature.other and when <= ts and math.isfinite(y)]
            if not known:
                continue
            y = known[-1]
            if feature.kind == "ratio":
                results[place] = x / y if y else math.nan
                continue
            if feature.kind == "spread_zscore":
                if y and x / y > 0:
                    logs.append(math.log(x / y))
                    if len(logs) >= feature.n:
                        results[place] = _score_of(logs[-feature.n :])
                continue
            if samples and samples[-1][0] and samples[-1][1]:
                returns.append((x / samples[-1][0] - 1.0, y / samples[-1][1] - 1.0))
                if len(returns) >= feature.n:
                    results[place] = _related(feature, returns[-feature.n :])
            samples.append((x, y))
    return delayed_each(rows, results, feature.lag)


def delayed_each(rows: Sequence[tuple[int, str, float]], results: list[float], lag: int) -> list[float]:
    for name in {row[1] for row in rows}:
        places = [place for place, row in enumerate(rows) if row[1] == name]
        for place, value in zip(places, delayed([results[place] for place in places], lag), strict=True):
            results[place] = value
    return results


def _score_of(values: Sequence[float]) -> float:
    deviation = _deviation(values)
    return float(Fraction(values[-1]) - sum(map(Fraction, values)) / len(values)) / deviation if deviation else math.nan


def _related(feature: Feature, returns: Sequence[tuple[float, float]]) -> float:
    mine, theirs = ([Fraction(pair[side]) for pair in returns] for side in (0, 1))
    my_mean, their_mean = sum(mine) / len(mine), sum(theirs) / len(theirs)
    product = sum((a - my_mean) * (b - their_mean) for a, b in zip(mine, theirs, strict=True))
    their_square = sum((b - their_mean) ** 2 for b in theirs)
    if feature.kind == "beta":
        return float(product / their_square) if their_square else math.nan
    my_square = sum((a - my_mean) ** 2 for a in mine)
    if not my_square or not their_square:
        return math.nan
    return float(product) / math.sqrt(float(my_square)) / math.sqrt(float(their_square))


def _ranks(feature: Feature, rows: Sequence[tuple[int, str, float]]) -> list[float]:
    series: dict[str, list[float]] = {}
    returns = [math.nan] * len(rows)
    for place, (_, who, x) in enumerate(rows):
        if math.isfinite(x):
            seen = series.setdefault(who, [])
            seen.append(x)
            if len(seen) > feature.n and seen[-1 - feature.n]:
                returns[place] = x / seen[-1 - feature.n] - 1.0
    results = [math.nan] * len(rows)
    for place, (ts, _, _) in enumerate(rows):
        rivals = [
            returns[other]
            for other, row in enumerate(rows)
            if other != place and row[0] == ts and not math.isnan(returns[other])
        ]
        if rivals and not math.isnan(returns[place]):
            below = sum(rival < returns[place] for rival in rivals)
            equal = sum(rival == returns[place] for rival in rivals)
            results[place] = (below + equal / 2) / len(rivals)
    return results
