"""What is left of a group's members at the end: a row for each, with its statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from .accounting import settle
from .books import Books
from .records import portfolios_of
from .statistics import STATISTICS, Column, figures

if TYPE_CHECKING:
    from .portfolio import Portfolio


def rows_of(
    books: Books,
    recipes: Mapping[str, Portfolio],
    baseline: str | None,
    errors: Mapping[str, Exception],
    traded: str | None,
) -> pa.RecordBatch:
    """A row of `records.PORTFOLIOS` per member, in the order of the books; `traded` says in words what was."""
    settle(books.state)
    ends = books.grid.ends()
    columns: dict[str, Any] = {
        "container": list(recipes),
        "baseline": [name == baseline for name in recipes],
        "strategy": [type(recipe.strategy).__name__ for recipe in recipes.values()],
        "parameters": [parameters_of(recipe) for recipe in recipes.values()],
        "instrument_id": traded,
        "error": [str(errors[name]) if name in errors else None for name in recipes],
        "ts_event": [int(ends[-1]) if len(ends) else None] * len(recipes),
    }
    columns |= _figures(books, list(recipes.values()))
    return portfolios_of(columns, np.array([name in errors for name in recipes], np.bool_))


def parameters_of(recipe: Portfolio) -> str:
    """What tells a portfolio from others, as JSON."""
    return msgspec.json.encode(recipe.parameters()).decode()


def _figures(books: Books, recipes: Sequence[Portfolio]) -> dict[str, Any]:
    """Statistics of all members; those that want them alike are made together."""
    alike: dict[Any, list[int]] = {}
    for place, recipe in enumerate(recipes):
        alike.setdefault(recipe.statistics, []).append(place)
    start_equity = np.array([recipe.start_equity for recipe in recipes])
    made = []
    for settings, places in alike.items():
        own = slice(None) if len(alike) == 1 else places
        made.append(
            figures(
                books.state[own],
                books.grid.ends(),
                books.grid.equity()[own],
                books.grid.interval,
                books.mean_length_ns,
                start_equity[own],
                settings,
            )
        )
    if len(made) == 1:
        return dict(made[0])
    order = np.argsort(np.concatenate([np.array(places) for places in alike.values()]))
    return {name: _joined([columns[name] for columns in made], list(alike.values()), order) for name in STATISTICS}


def _joined(parts: Sequence[Column], places: Sequence[Sequence[int]], order: np.ndarray[Any, Any]) -> Any:
    """Columns of several parts in the order of members."""
    if isinstance(parts[0], str):
        texts = [part for part, own in zip(parts, places, strict=True) for _ in own]
        return [texts[place] for place in order.tolist()]
    return np.concatenate(parts)[order]
