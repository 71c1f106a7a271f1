"""Many portfolios at work on one stream of bars: one call per batch for all of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import Batch, InputError, Result, Transform

from .accounting import FILL, TERMS, account_kernel, opening_state
from .bars import Bar, Bars, Floats, Times, timestamp
from .cross import CrossGroup
from .equity import EquityGrid
from .records import equity_of, fills_of, portfolios_of
from .statistics import Value, statistics
from .strategy import GroupDecider, Strategy, StrategyFailed, TargetsOf

if TYPE_CHECKING:
    from .portfolio import Portfolio

BLOCK_BARS = 1_024
BLOCK_CELLS = 65_536
"""Members x bars in one kernel call: half a megabyte of targets, which stays in cache."""
EMIT_FILLS = 65_536
"""Fills gathered before they are handed over (72 bytes each), so that short batches do not make results of one fill."""
EMIT_FILLS_EACH = 256
"""More are gathered where members are many: as many times this."""
MOST_FILLS = 1_048_576
"""But never more than this."""
FEW_MEMBERS = 16
"""Up to so many, short calls may stay on the loop; the last call of more is long, however short the others were."""
NEVER = -(2**63)
"""Where no bar has ended yet, ns."""
MOST_NAMES = 10
"""Instruments an error lists."""


class PortfolioGroup(Transform):
    """Runs portfolios by name; with `alone`, one of them as the container itself.

    A strategy's own failure takes its portfolio out: it trades no more, its row and its `statistics` have the error and
    no figures, and it keeps no equity; the fills it had are given.
    The failure is raised where there is nobody else to go on: `alone`, or when all have failed.
    """

    def __init__(
        self, members: Mapping[str, Portfolio], *, alone: bool = False, log: logging.Logger | None = None
    ) -> None:
        self._log = log or logging.getLogger("penstock.portfolio")
        self._members = sorted(members.items(), key=lambda item: _class_name(item[1].strategy))
        self._order = {name: place for place, name in enumerate(members)}
        self._alone = alone
        recipes = [recipe for _, recipe in self._members]
        self.runs_in = "auto" if len(recipes) <= FEW_MEMBERS else "thread"
        self._instrument = _one_instrument(recipes)
        self._declared = self._instrument is not None
        self._others: set[str] = set()
        self._state = opening_state([recipe.start_equity for recipe in recipes])
        self._terms = np.array([_terms(recipe) for recipe in recipes], TERMS)
        self._grid = EquityGrid(len(recipes))
        self._lengths_ns = 0
        self._newest = (NEVER, NEVER)
        self._bars = 0
        self._fills: list[np.ndarray[Any, Any]] = []
        self._gathered = 0
        self._enough = min(max(EMIT_FILLS, EMIT_FILLS_EACH * len(recipes)), MOST_FILLS)
        self._scratch = np.empty(2 * BLOCK_CELLS, FILL)
        self._errors: dict[int, StrategyFailed] = {}
        self._compiled: list[tuple[int, int, GroupDecider]] = []
        self._asked: dict[int, TargetsOf] = {}
        self._build_deciders()

    def warm(self) -> None:
        account_kernel()
        for _, _, decider in self._compiled:
            decider.warm()

    def on_batch(self, batch: Batch) -> Iterator[Result]:
        columns = self._of_our_instrument(batch.columns)
        if not columns.num_rows:
            return
        bars = Bars(columns)
        slots = self._take_times(bars)
        yield from self._decide_together(bars, slots)
        yield from self._decide_one_by_one(bars, slots)
        self._bars += len(bars)

    def on_end(self) -> Iterator[Result | Batch]:
        if self._declared and self._others and not self._bars:
            names = ", ".join(sorted(self._others)[:MOST_NAMES])
            raise InputError(f"no bar was of instrument '{self._instrument}', all were of others: {names}")
        yield from self._emit_fills()
        self._tell_of_skips()
        found = self._statistics()
        times, equity = self._grid.ends(), self._grid.equity()
        rows: list[dict[str, Any]] = [{}] * len(self._members)
        for place, (name, recipe) in enumerate(self._members):
            member = "" if self._alone else name
            parameters = msgspec.structs.asdict(recipe.strategy)
            told: dict[str, Any] = {
                "strategy": type(recipe.strategy).__name__,
                "instrument_id": self._instrument,
                "error": str(self._errors[place]) if place in self._errors else None,
            } | found[place]
            if place not in self._errors:
                yield Result("equity", equity_of(times, equity[place], self._grid.interval), member=member)
            yield Result("statistics", told | {"parameters": msgspec.to_builtins(parameters)}, member=member)
            rows[self._order[name]] = told | {
                "container": name,
                "baseline": False,
                "parameters": msgspec.json.encode(parameters).decode(),
                "ts_event": int(times[-1]) if len(times) else None,
            }
        yield Batch.from_columns(portfolios_of(rows))

    def metrics(self) -> Mapping[str, Any]:
        """Counts; `skipped_decisions` are those not taken because a bar had one price only, of all portfolios."""
        return {
            "portfolios": len(self._members),
            "failed": len(self._errors),
            "bars": self._bars,
            "fills": int(self._state["fills"].sum()),
            "skipped_decisions": sum(decider.skipped_decisions for decider in self._crossings()),
        }

    def progress(self) -> str:
        """A few words for the live progress line."""
        return f"{len(self._members):,} portfolios, {self._bars:,} bars"

    def _crossings(self) -> Iterator[CrossGroup]:
        return (decider for _, _, decider in self._compiled if isinstance(decider, CrossGroup))

    def _tell_of_skips(self) -> None:
        """Nothing traded, and nobody would know why."""
        for decider in self._crossings():
            if self._bars and decider.skipped_decisions == self._bars * decider.num_skipping > 0:
                self._log.warning(
                    "%s of the portfolios decided nothing: each of %s bars has one price only "
                    "(open = high = low = close), and `skip_single_price` passes over those; "
                    "make longer bars, or set `skip_single_price: false`",
                    f"{decider.num_skipping:,}",
                    f"{self._bars:,}",
                )

    def _build_deciders(self) -> None:
        """One compiled decider for each class that has one; everybody else is asked alone."""
        places = range(len(self._members))
        for _, run in groupby(places, key=lambda place: type(self._members[place][1].strategy)):
            team = list(run)
            strategies = [self._members[place][1].strategy for place in team]
            decider = type(strategies[0]).build_group(strategies)
            if decider is not None:
                self._compiled.append((team[0], team[-1] + 1, decider))
                continue
            for place, strategy in zip(team, strategies, strict=True):
                try:
                    self._asked[place] = TargetsOf(strategy)
                except StrategyFailed as error:
                    self._take_out(place, error)

    def _of_our_instrument(self, columns: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of the declared instrument; of the only one there is where none is declared."""
        index = columns.schema.get_field_index("instrument_id")
        if index < 0 or not columns.num_rows:
            return columns
        ids = columns.column(index)
        found = sorted(str(name) for name in pc.unique(ids).to_pylist())
        if self._instrument is None and len(found) == 1:
            self._instrument = found[0]
        if found == [self._instrument]:
            return columns
        if not self._declared:
            names = ", ".join(sorted({*found, self._instrument or found[0]}))
            raise InputError(
                f"a portfolio trades one instrument, and its bars are of {names}; declare `instrument: {found[0]}`"
            )
        if len(self._others) < MOST_NAMES:
            self._others.update(found)
        return columns.filter(pc.equal(ids.cast(pa.utf8()), self._instrument))

    def _take_times(self, bars: Bars) -> Times:
        """Check the order of the bars, note their lengths, and give each its place in the kept equity."""
        starts, ends = bars.times("bar_start"), bars.times("bar_end")
        starts_before, ends_before = (
            np.concatenate([[last], times[:-1]]) for last, times in zip(self._newest, (starts, ends), strict=True)
        )
        back = np.flatnonzero(ends < ends_before)
        if len(back):
            this, last = timestamp(int(ends[back[0]])), timestamp(int(ends_before[back[0]]))
            raise InputError(
                f"expected bars in the order of bar_end, found one ending {this} after one ending {last}; "
                "sort the recording by time"
            )
        twice = np.flatnonzero((ends == ends_before) & (starts == starts_before) & (starts < ends))
        if len(twice):
            begin, end = timestamp(int(starts[twice[0]])), timestamp(int(ends[twice[0]]))
            raise InputError(
                f"expected one bar for each interval, found two from {begin} to {end}; leave one of them out, "
                "or bars of all but one price (`price: last`, bid, ask or mid) where they differ in that"
            )
        self._newest = int(starts[-1]), int(ends[-1])
        self._lengths_ns += int((ends - starts).sum())
        return self._grid.extend(ends)

    def _decide_together(self, bars: Bars, slots: Times) -> Iterator[Result]:
        """Members with a compiled decider: by blocks of bars, then of members."""
        for begin in range(0, len(bars), BLOCK_BARS):
            length = min(BLOCK_BARS, len(bars) - begin)
            step = BLOCK_CELLS // length
            for first, last, decider in self._compiled:
                decider.look(bars, begin, length)
                for at in range(first, last, step):
                    targets = np.empty((min(step, last - at), length))
                    decider.on_bars(at - first, targets)
                    self._account(at, bars, begin, targets, slots)
                    if self._gathered >= self._enough:
                        yield from self._emit_fills()

    def _decide_one_by_one(self, bars: Bars, slots: Times) -> Iterator[Result]:
        """Members whose strategy is Python: each is asked for the whole batch."""
        asked = sorted(self._asked.items())
        rows: Sequence[Bar] | None = None
        if any(one.wants_rows for _, one in asked):
            rows = list(bars.rows())
        for place, one in asked:
            failure: StrategyFailed | None = None
            try:
                targets = one.targets(bars, rows)
            except StrategyFailed as error:
                failure, targets = error, error.targets
            for begin in range(0, len(targets), BLOCK_CELLS):
                self._account(place, bars, begin, targets[None, begin : begin + BLOCK_CELLS], slots)
                if self._gathered >= self._enough:
                    yield from self._emit_fills()
            if failure is not None:
                self._take_out(place, failure)

    def _account(self, first: int, bars: Bars, begin: int, targets: Floats, slots: Times) -> None:
        members, length = targets.shape
        own, block = slice(first, first + members), slice(begin, begin + length)
        written = account_kernel()(
            self._state[own],
            self._terms[own],
            targets,
            bars["open"][block],
            bars["close"][block],
            bars.times("bar_start")[block],
            bars.times("bar_end")[block],
            slots[block],
            self._grid.values[own],
            self._scratch,
        )
        if written:
            fills = self._scratch[:written].copy()
            fills["member"] += first
            self._fills.append(fills)
            self._gathered += written

    def _emit_fills(self) -> Iterator[Result]:
        """Hand over what was gathered, one result per member, in the order of time."""
        if not self._gathered:
            return
        fills = np.concatenate(self._fills)
        self._fills, self._gathered = [], 0
        for place, part in fills_of(fills):
            name = self._members[place][0]
            yield Result("fills", part, append=True, member="" if self._alone else name)

    def _statistics(self) -> list[dict[str, Value]]:
        recipes = [recipe for _, recipe in self._members]
        found: list[dict[str, Value]] = [{}] * len(recipes)
        alike: dict[Any, list[int]] = {}
        for place, recipe in enumerate(recipes):
            if place in self._errors:
                continue
            alike.setdefault((recipe.start_equity, recipe.statistics), []).append(place)
        for (start_equity, settings), places in alike.items():
            figures = statistics(
                self._state[places],
                self._grid.ends(),
                self._grid.equity()[places],
                self._grid.interval,
                self._lengths_ns / self._bars if self._bars else 0.0,
                start_equity,
                settings,
            )
            for place, values in zip(places, figures, strict=True):
                found[place] = values
        return found

    def _take_out(self, place: int, error: StrategyFailed) -> None:
        self._asked.pop(place, None)
        self._errors[place] = error
        if self._alone or len(self._errors) == len(self._members):
            raise next(iter(self._errors.values()))


def _terms(recipe: Portfolio) -> tuple[float, float, float, int]:
    fills = recipe.fills
    return (recipe.strategy.quantity, fills.fee_bps / 1e4, fills.slippage_bps / 1e4, int(fills.at == "next_open"))


def _class_name(strategy: Strategy) -> str:
    return f"{type(strategy).__module__}.{type(strategy).__qualname__}"


def _one_instrument(recipes: Sequence[Portfolio]) -> str | None:
    names = {recipe.instrument for recipe in recipes}
    if len(names) > 1:
        raise ValueError(f"portfolios of one group trade one instrument, found {sorted(map(str, names))}")
    return names.pop() if names else None
