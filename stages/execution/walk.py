"""The stages that join what walking forward left: the out-of-sample pieces as one history, held against in-sample."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from pipeline import NS_UTC, Batch, Context, Feed, InputError, Logic, Result, Stage, StateOf, Transform
from stages.portfolio.equity import LADDER

from .stitching import Piece, figures, stitched

PIECES = pa.schema(
    [
        pa.field("ts_event", NS_UTC, nullable=False),
        pa.field("phase", pa.utf8(), nullable=False),
        pa.field("equity", pa.float64(), nullable=False),
        pa.field("equity_every", pa.utf8(), nullable=False),
        pa.field("calendar", pa.utf8()),
    ],
    metadata={"record": "piece"},
)
"""Kept equity of one out-of-sample phase, as a multiple of what it began with: the mean of those that were selected."""

EQUITY = pa.schema(
    [pa.field("ts_event", NS_UTC, nullable=False), pa.field("equity", pa.float64(), nullable=False)],
    metadata={"record": "equity"},
)
"""The pieces one after the other, each begun with what the one before it left; 1.0 before the first."""


class OutOfSample(Stage, frozen=True):
    """Feeds the out-of-sample equity of a walk, phase by phase, out of the results of its phases.

    Made by `Execution.joining`; `pairs` are the train and the test phase of each step. Those selected share the capital
    equally and are not rebalanced within a phase.
    """

    is_feed: ClassVar[bool | None] = True

    pairs: tuple[tuple[str, str], ...] = ()
    ranking: str = "execution"
    """The container that ranked them."""

    def build(self, context: Context) -> Feed:
        return _Pieces([_piece(context, self.ranking, test) for _, test in self.pairs])

    def output_schema(self, inputs: Mapping[str, pa.Schema | None]) -> pa.Schema:
        return PIECES


class _Pieces(Feed):
    def __init__(self, pieces: Sequence[pa.RecordBatch]) -> None:
        self._pieces = pieces

    def batches(self) -> Iterator[Batch]:
        yield from map(Batch, self._pieces)


class Joined(Stage, frozen=True):
    """Joins the pieces of `OutOfSample`, and holds them against what selected them.

    Results: `equity` (EQUITY) and `steps`, one row per pair of phases: who was selected, the objective in-sample and
    out-of-sample (means over those selected, null where undefined), and the piece's total return. Figures: statistics
    of the joined equity, as `stitching.figures` says.
    """

    is_feed: ClassVar[bool | None] = False

    pairs: tuple[tuple[str, str], ...] = ()
    ranking: str = "execution"
    objective: str = "sharpe"

    def build(self, context: Context) -> Logic:
        return _Joiner(self, [_step(context, self, train, test) for train, test in self.pairs])


class _Joiner(Transform):
    """A batch is one piece, or a part of one."""

    def __init__(self, recipe: Joined, steps: Sequence[dict[str, Any]]) -> None:
        self._recipe = recipe
        self._steps = steps
        self._batches: list[pa.RecordBatch] = []
        self._figures: dict[str, Any] = {}
        self._ended = False

    def on_batch(self, batch: Batch) -> None:
        self._batches.append(batch.columns)

    def on_end(self) -> Iterator[Result]:
        times, equity = self._join()
        yield Result("equity", pa.table([pa.array(times).cast(NS_UTC), pa.array(equity)], schema=EQUITY))
        yield Result("steps", pa.Table.from_pylist(list(self._steps), schema=STEPS))

    def snapshot(self) -> Any:
        """The pieces that came; the rest is worked out of them."""
        return self._state_of().seal({"pieces": list(self._batches), "ended": self._ended})

    def restore(self, state: Any) -> None:
        found = self._state_of().open(state)
        self._batches = list(found["pieces"])
        if found["ended"]:
            self._join()

    def _state_of(self) -> StateOf:
        told = {"objective": self._recipe.objective, "pairs": [list(pair) for pair in self._recipe.pairs]}
        return StateOf("joined", 1, told)

    def _join(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Times and equity of the pieces one after the other; figures and steps on the way."""
        self._ended = True
        table = pa.Table.from_batches(self._batches, PIECES)
        pieces = [_read(table, test) for _, test in self._recipe.pairs]
        times, equity = stitched(pieces)
        for step, piece in zip(self._steps, pieces, strict=True):
            step["total_return"] = float(piece.equity[-1]) - 1.0 if len(piece.equity) else None
        inside, outside = (_mean([step[name] for step in self._steps]) for name in ("in_sample", "out_of_sample"))
        self._figures = {
            "objective": self._recipe.objective,
            "steps": len(self._steps),
            "in_sample_mean": inside,
            "out_of_sample_mean": outside,
            **figures(times, equity, pieces),
        }
        return times, equity

    def metrics(self) -> Mapping[str, Any]:
        """`objective`, `steps`, means of it in `in_sample_mean` and `out_of_sample_mean`, and `stitching.figures`."""
        return self._figures

    def report(self) -> pa.Table:
        """One row per step."""
        table = pa.Table.from_pylist(list(self._steps), schema=STEPS)
        names = [", ".join(found) for found in table.column("portfolios").to_pylist()]
        return table.set_column(table.schema.names.index("portfolios"), "portfolios", pa.array(names, pa.utf8()))


STEPS = pa.schema(
    [
        ("phase", pa.utf8()),
        ("selected_in", pa.utf8()),
        ("portfolios", pa.list_(pa.utf8())),
        ("in_sample", pa.float64()),
        ("out_of_sample", pa.float64()),
        ("total_return", pa.float64()),
    ],
    metadata={"record": "step"},
)
"""One step of a walk."""


def _ranking(context: Context, container: str, phase: str) -> list[dict[str, Any]]:
    """The portfolios that were ranked in a phase, baselines left out. Raises `InputError`."""
    try:
        table: pa.Table = context.earlier[phase][container]["ranking"]
    except KeyError as error:
        raise InputError(f"phase '{phase}' has left no ranking of '{container}' to join: {error}") from error
    return [row for row in table.to_pylist() if not row["baseline"]]


def _step(context: Context, recipe: Joined, train: str, test: str) -> dict[str, Any]:
    outside = {row["container"]: row for row in _ranking(context, recipe.ranking, test)}
    inside = {row["container"]: row for row in _ranking(context, recipe.ranking, train)}
    names = [name for name in inside if name in outside]
    return {
        "phase": test,
        "selected_in": train,
        "portfolios": names,
        "in_sample": _mean([inside[name][recipe.objective] for name in names]),
        "out_of_sample": _mean([outside[name][recipe.objective] for name in names]),
    }


def _piece(context: Context, container: str, phase: str) -> pa.RecordBatch:
    """Mean equity of those selected, as a multiple of what each began with. Raises `InputError`."""
    curves, grids, calendars = [], [], []
    for row in _ranking(context, container, phase):
        if row["error"] is not None:
            continue
        try:
            table: pa.Table = context.earlier[phase][row["container"]]["equity"]
        except KeyError as error:
            raise InputError(
                f"'{row['container']}' of phase '{phase}' has kept no equity to join ({error}); portfolios need "
                "`data_flow.persistence.on_completion: true`"
            ) from error
        times = table.column("ts_event").combine_chunks().cast(pa.int64()).to_numpy()
        curves.append((times, table.column("equity").to_numpy() / row["start_equity"]))
        grids.append(row["equity_every"] or "bar")
        calendars.append(row["calendar"])
    times = np.unique(np.concatenate([own for own, _ in curves])) if curves else np.empty(0, np.int64)
    mean = np.zeros(len(times))
    for own, equity in curves:
        # Where portfolios were kept at different times, each stands at its last one, at first with what it began with.
        mean += np.concatenate(([1.0], equity))[np.searchsorted(own, times, side="right")]
    rows = len(times)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(times).cast(NS_UTC),
            pa.array([phase] * rows, pa.utf8()),
            pa.array(mean / max(len(curves), 1)),
            pa.array([max(grids, default="bar", key=LADDER.__getitem__)] * rows, pa.utf8()),
            pa.array([calendars[0] if calendars else None] * rows, pa.utf8()),
        ],
        schema=PIECES,
    )


def _read(table: pa.Table, phase: str) -> Piece:
    import pyarrow.compute as pc

    rows = table.filter(pc.equal(table.column("phase"), phase))
    return Piece(
        rows.column("ts_event").combine_chunks().cast(pa.int64()).to_numpy(),
        rows.column("equity").to_numpy(),
        rows.column("equity_every")[0].as_py() if rows.num_rows else "bar",
        rows.column("calendar")[0].as_py() if rows.num_rows else None,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of what is defined; None where nothing is."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
