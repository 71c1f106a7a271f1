"""How the objective lies over the parameters: the two that tell most, and a bounded map of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

MOST_VALUES = 40
"""Values of a parameter that are told apart; of more, neighbours are put together, as many as it takes."""
MOST_CLASSES = 8
"""Into so many a parameter's values are put together before it is asked how much it explains."""

NOTHING = -1.0


@dataclass(frozen=True)
class Axis:
    """One parameter: its classes of values in their order."""

    name: str
    labels: Sequence[str]
    place: Mapping[str, int]
    """Value (as JSON) -> its class."""

    @property
    def together(self) -> bool:
        """Whether classes are of several values."""
        return len(self.labels) < len(self.place)


@dataclass(frozen=True)
class Landscape:
    """The objective over one parameter (`y` None) or two."""

    x: Axis
    y: Axis | None
    cells: Mapping[tuple[int, int], tuple[float, str]]
    """(x, y) -> objective and name of the portfolio; y is 0 where there is one parameter."""
    others: Mapping[str, Any]
    """Other parameters in which portfolios differ, as the best has them."""
    sliced: bool
    """Whether the others are held at the best's values; else each cell shows the best over them."""
    best: tuple[int, int]
    """The cell of the best portfolio."""
    strategy: str


def landscape(
    rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any], objective: str, *, lower: bool
) -> Landscape | None:
    """Of the best's strategy, over the two parameters that explain most of the objective, None where none differ.

    `explained` says how much that is; ties go to the parameter declared first. The others are held at the best's values
    where that leaves at least half of the cells that there are (a full grid leaves all), else the best over them is
    shown.
    """
    sign = 1.0 if lower else -1.0
    own = [row for row in rows if row["strategy"] == best["strategy"] and row[objective] is not None]
    given = [json.loads(row["parameters"]) for row in own]
    mine = json.loads(best["parameters"])
    names = [name for name in mine if len({_key(each.get(name)) for each in given}) > 1]
    if not names:
        return None
    values = [float(row[objective]) for row in own]
    told = sorted(names, key=lambda name: -explained([each.get(name) for each in given], values))[:2]
    axes = [axis_of(name, [each.get(name) for each in given]) for name in names if name in told]
    others = {name: mine[name] for name in names if name not in told}

    def cell(each: Mapping[str, Any]) -> tuple[int, int]:
        places = [axis.place[_key(each.get(axis.name))] for axis in axes]
        return places[0], places[1] if len(places) > 1 else 0

    everywhere: dict[tuple[int, int], tuple[float, str]] = {}
    here: dict[tuple[int, int], tuple[float, str]] = {}
    for row, each, value in zip(own, given, values, strict=True):
        place = cell(each)
        for cells, belongs in ((everywhere, True), (here, all(each.get(name) == others[name] for name in others))):
            if belongs and (place not in cells or sign * value < sign * cells[place][0]):
                cells[place] = value, row["container"]
    sliced = 2 * len(here) >= len(everywhere)
    return Landscape(
        x=axes[0],
        y=axes[1] if len(axes) > 1 else None,
        cells=here if sliced else everywhere,
        others=others,
        sliced=sliced,
        best=cell(mine),
        strategy=str(best["strategy"]),
    )


def at_the_edge(found: Landscape) -> list[str]:
    """Parameters of the landscape whose best value is the first or last that was tried, of three or more."""
    places = zip((found.x, found.y), found.best, strict=True)
    return [
        axis.name
        for axis, place in places
        if axis is not None and len(axis.labels) > 2 and place in (0, len(axis.labels) - 1)
    ]


def explained(given: Sequence[Any], values: Sequence[float]) -> float:
    """Share of the variance of `values` that lies between classes of what was given, at most 1.

    Adjusted for the number of classes, of which many explain something by chance: 1 - (1 - eta squared) * (n - 1) /
    (n - classes), below 0 where they explain less than chance would. NOTHING without variance or a class of two.
    """
    axis = axis_of("", given, MOST_CLASSES)
    classes: dict[int, list[float]] = defaultdict(list)
    for each, value in zip(given, values, strict=True):
        classes[axis.place[_key(each)]].append(value)
    mean, n = fmean(values), len(values)
    whole = sum((value - mean) ** 2 for value in values)
    middles = ((fmean(part), part) for part in classes.values())
    within = sum((value - middle) ** 2 for middle, part in middles for value in part)
    if not whole or n == len(classes):
        return NOTHING
    return 1.0 - within / whole * (n - 1) / (n - len(classes))


def axis_of(name: str, given: Sequence[Any], most: int = MOST_VALUES) -> Axis:
    """At most so many classes of the values, as even in number as can be, each of neighbours."""
    distinct = {_key(value): value for value in given}
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in distinct.values())
    keys = sorted(distinct, key=(lambda key: (distinct[key], key)) if numeric else None)
    count = min(len(keys), most)
    bounds = [len(keys) * step // count for step in range(count + 1)]
    parts = [keys[begin:end] for begin, end in pairwise(bounds)]
    place = {key: index for index, part in enumerate(parts) for key in part}
    labels = [_label(distinct, part) for part in parts]
    return Axis(name, labels, place)


def _label(distinct: Mapping[str, Any], part: Sequence[str]) -> str:
    first, last = said_value(distinct[part[0]]), said_value(distinct[part[-1]])
    return first if len(part) == 1 else f"{first} – {last}"


def said_value(value: Any) -> str:
    """A parameter's value in few letters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
