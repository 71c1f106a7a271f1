"""What is left of a group's members at the end: kept equity, statistics, and a row for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pyarrow as pa

from .accounting import settle
from .books import Books
from .records import NS_UTC, equity_of
from .statistics import Value, statistics

if TYPE_CHECKING:
    from .portfolio import Portfolio

TOGETHER = 64
"""Members whose statistics are made in one call: enough to share its work, few enough to weigh little."""


class Closed(NamedTuple):
    """One member at the end."""

    place: int
    equity: pa.RecordBatch | None
    """None for one that failed."""
    statistics: dict[str, Any]
    row: dict[str, Any]
    """Columns of `records.PORTFOLIOS`, without those that name the member."""


def close_books(
    books: Books, recipes: Sequence[Portfolio], errors: Mapping[int, Exception], traded: str | None
) -> Iterator[Closed]:
    """One member after the other; nothing is made before it is asked for. `traded` says in words what was."""
    settle(books.state)
    times, equity = pa.array(books.grid.ends()).cast(NS_UTC), books.grid.equity()
    ended = int(books.grid.ends()[-1]) if len(times) else None
    for begin in range(0, len(recipes), TOGETHER):
        places = range(begin, min(begin + TOGETHER, len(recipes)))
        found = _statistics(books, recipes, [place for place in places if place not in errors])
        for place in places:
            strategy = recipes[place].strategy
            parameters = msgspec.structs.asdict(strategy)
            told: dict[str, Any] = {
                "strategy": type(strategy).__name__,
                "instrument_id": traded,
                "error": str(errors[place]) if place in errors else None,
            } | found.get(place, {})
            kept = None if place in errors else equity_of(times, equity[place], books.grid.interval)
            row = told | {"parameters": msgspec.json.encode(parameters).decode(), "ts_event": ended}
            yield Closed(place, kept, told | {"parameters": msgspec.to_builtins(parameters)}, row)


def _statistics(books: Books, recipes: Sequence[Portfolio], places: Sequence[int]) -> dict[int, dict[str, Value]]:
    alike: dict[Any, list[int]] = {}
    for place in places:
        recipe = recipes[place]
        alike.setdefault((recipe.start_equity, recipe.statistics), []).append(place)
    found: dict[int, dict[str, Value]] = {}
    for (start_equity, settings), own in alike.items():
        figures = statistics(
            books.state[own],
            books.grid.ends(),
            books.grid.equity()[own],
            books.grid.interval,
            books.mean_length_ns,
            start_equity,
            settings,
        )
        found.update(zip(own, figures, strict=True))
    return found
