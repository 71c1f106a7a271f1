"""Many portfolios at work on one stream of bars: one call per batch for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from pipeline import Batch, Context, MemberRows, PenstockError, Result, StateOf, Transform, fitting

from .accounting import FILL, Block
from .arrivals import arrivals_of
from .baseline import Baseline
from .books import Books
from .closing import rows_of
from .crew import Crew, processors
from .deciders import Deciders
from .records import PORTFOLIOS, equity_of, fills_of
from .state import state_of
from .strategy import GroupDecider, Strategy, StrategyFailed
from .tape import Tape

if TYPE_CHECKING:
    from .bars import Bar, Floats
    from .portfolio import Portfolio

BLOCK_BARS = 2_048
BLOCK_CELLS = 131_072
"""Members x bars in one kernel call: a megabyte of targets, which stays in cache."""
ASKED_CELLS = 524_288
"""Targets of members asked one by one that are gathered before their books are kept: 4 megabytes, or one member's."""
EMIT_FILLS = 65_536
"""Fills gathered before they are handed over (80 bytes each), so that short batches do not make results of one fill."""
EMIT_FILLS_EACH = 256
"""More are gathered where members are many: as many times this."""
MOST_FILLS = 262_144
"""But never more than this."""
TOGETHER = 128
"""Members whose results are handed over as one value."""
OF_ROWS_ALONE = ("container", "baseline", "ts_event")
"""Columns of the output that a portfolio's own `statistics` have no need of."""
FEW_MEMBERS = 16
"""Up to so many, short calls may stay on the loop; the last call of more is long, however short the others were."""


class PortfolioGroup(Transform):
    """Runs portfolios by name; with `alone`, one of them as the container itself.

    A strategy's own failure takes its portfolio out: it trades no more, its row and its `statistics` have the error and
    no figures, and it keeps no equity; the fills it had are given.
    The failure is raised where there is nobody else to go on: `alone`, or when all have failed. Where more than
    `max_failed_share` of the portfolios have failed by the end of a batch, that is raised.
    """

    def __init__(self, members: Mapping[str, Portfolio], context: Context, *, alone: bool = False) -> None:
        self._log, self._active_from_ns = context.log, context.active_from_ns
        self._alone = alone
        self._members = sorted(members.items(), key=lambda item: _class_name(item[1].strategy))
        self._names = [name for name, _ in self._members]
        places = {name: place for place, name in enumerate(self._names)}
        self._order = [places[name] for name in members]
        first = next(iter(members.values()))
        self._recipes = [recipe for _, recipe in self._members]
        self._arrivals = arrivals_of(self._recipes, context.active_from_ns)
        self._several = first.instruments is not None
        self._strategies = [recipe.strategy for recipe in self._recipes]
        self._baseline: Baseline | None = None
        if first.baseline:
            self._baseline = Baseline(first, f"{context.name}_baseline", len(members))
            self._recipes.append(self._baseline.recipe)
            self._names.append(self._baseline.name)
        self._max_failed_share, self._grouped = first.max_failed_share, first.grouped
        threads = first.threads or (1 if len(members) <= FEW_MEMBERS else processors())
        self.runs_in = "auto" if len(members) <= FEW_MEMBERS and threads == 1 else "thread"
        self._crew = Crew(threads)
        self._desks: list[Floats] = [np.empty(0) for _ in range(threads)]
        self._books = Books(self._recipes, max(1, len(self._arrivals.names)), threads)
        self._fills: list[np.ndarray[Any, Any]] = []
        self._gathered = 0
        self._enough = min(max(EMIT_FILLS, EMIT_FILLS_EACH * len(members)), MOST_FILLS)
        self._errors: dict[int, StrategyFailed] = {}
        self._skipped_warming = 0
        self._told: Mapping[str, Any] | None = None
        """What it has to say once it has ended; nothing else is remembered of it then."""
        self._deciders = {0: Deciders(self._strategies, self._grouped)}
        for place, error in self._deciders[0].broken.items():
            self._take_out(place, error)

    def warm(self) -> None:
        self._books.warm()
        self._deciders[0].warm()

    def on_batch(self, batch: Batch) -> Iterator[Result | MemberRows]:
        tape = self._arrivals.take(batch.columns)
        if tape is not None:
            yield from self._work(tape)

    def on_end(self) -> Iterator[Result | MemberRows | Batch]:
        tape = self._arrivals.rest()
        if tape is not None:
            yield from self._work(tape)
        yield from self._emit_fills()
        self._tell_of_skips()
        errors = {self._names[place]: error for place, error in self._errors.items()}
        baseline = None if self._baseline is None else self._baseline.name
        recipes = dict(zip(self._names, self._recipes, strict=True))
        rows = rows_of(self._books, recipes, baseline, errors, self._arrivals.traded)
        if self._alone:
            yield from self._results(rows)
        else:
            yield from self._emit_equity()
            told = rows.select([name for name in PORTFOLIOS.names if name not in OF_ROWS_ALONE])
            yield MemberRows("statistics", self._names, np.arange(len(self._names) + 1), told)
        yield Batch.from_columns(rows.take(pa.array([*self._order, *range(len(self._order), len(rows))])))
        self._told = self.metrics()

    @property
    def can_snapshot(self) -> bool:
        """Whether all deciders can give their state."""
        return self._deciders[0].can_snapshot

    def snapshot(self) -> Any:
        """Books, what is held back, and what deciders remember; at the end nothing but what `metrics` says."""
        if self._told is not None:
            return self._state_of.seal({"told": dict(self._told)})
        return self._state_of.seal(
            {
                "told": None,
                "arrivals": self._arrivals.snapshot(),
                "books": self._books.snapshot(),
                "baseline": None if self._baseline is None else self._baseline.snapshot(),
                "fills": np.concatenate([np.empty(0, FILL), *self._fills]),
                "calls": np.cumsum([len(fills) for fills in self._fills], dtype=np.int64),
                "failed": [[place, str(error)] for place, error in self._errors.items()],
                "skipped_warming": self._skipped_warming,
                "deciders": [[number, each.snapshot(self._errors)] for number, each in self._deciders.items()],
            }
        )

    def restore(self, state: Any) -> None:
        found = self._state_of.open(state)
        if found["told"] is not None:
            self._told, self._books.rows = found["told"], found["told"]["bars"]
            return
        self._arrivals.restore(found["arrivals"])
        self._books.restore(found["books"])
        if self._baseline is not None:
            self._baseline.restore(found["baseline"], self._books.terms)
        fills = fitting("fills", found["fills"], np.empty(0, FILL), rows=True)
        self._fills = np.split(fills, found["calls"])[:-1]
        self._gathered = len(fills)
        self._errors = {place: StrategyFailed(said) for place, said in found["failed"]}
        self._skipped_warming = found["skipped_warming"]
        for number, remembered in found["deciders"]:
            if number not in self._deciders:
                self._deciders[number] = Deciders(self._strategies, self._grouped)
            self._deciders[number].restore(remembered)

    @cached_property
    def _state_of(self) -> StateOf:
        return state_of(dict(zip(self._names, self._recipes, strict=True)), self._active_from_ns)

    def metrics(self) -> Mapping[str, Any]:
        """Counts, without the baseline's.

        `skipped_decisions` are those not taken because a bar had one price only, of all portfolios.
        """
        if self._told is not None:
            return self._told
        return {
            "portfolios": len(self._members),
            "failed": len(self._errors),
            "bars": self._books.rows,
            "fills": int(self._books.state["fills"][: len(self._members)].sum()),
            "skipped_decisions": self._skipped() - self._skipped_warming,
        }

    def progress(self) -> str:
        """A few words for the live progress line."""
        return f"{len(self._members):,} portfolios, {self._books.rows:,} bars"

    def close(self) -> None:
        self._crew.close()

    def _work(self, tape: Tape) -> Iterator[Result | MemberRows]:
        for instrument in tape.parts:
            if instrument not in self._deciders:
                self._deciders[instrument] = Deciders(self._strategies, self._grouped)
        self._books.extend(tape, len(self._arrivals.names))
        for made in self._keep_books(tape):
            for fills in made:
                if fills is not None:
                    self._fills.append(fills)
                    self._gathered += len(fills)
            if self._gathered >= self._enough:
                yield from self._emit_fills()
        failed, planned = len(self._errors), len(self._members)
        if failed > self._max_failed_share * planned:
            place, error = next(iter(self._errors.items()))
            raise PenstockError(
                f"{failed:,} of {planned:,} portfolios failed, and max_failed_share is {self._max_failed_share:g}; "
                f"the first, '{self._names[place]}': {error}"
            ) from error

    def _keep_books(self, tape: Tape) -> Iterator[Sequence[np.ndarray[Any, Any] | None]]:
        """Decide and account all rows of a tape; gives the fills of each call, which are to be handed over together."""
        last = len(tape.steps) - 1
        runs = range(len(self._deciders[0].together))
        for steps in tape.blocks(BLOCK_BARS, 0, tape.warm) if runs else ():
            for run in runs:
                self._decide_together(tape, steps, run, None)
            self._skipped_warming = self._skipped()
        for steps in tape.blocks(BLOCK_BARS, tape.warm, last) if runs else ():
            block = self._books.read(tape, *steps)
            for run in runs:
                yield self._decide_together(tape, steps, run, block)
        yield from self._decide_one_by_one(tape)
        if self._baseline is not None:
            targets = self._baseline.targets(tape, self._books.terms)
            for steps in tape.blocks(BLOCK_CELLS, tape.warm, last):
                fills = self._begin_accounts(self._baseline.place, [targets], tape, steps)()
                yield () if self._alone else fills

    def _decide_together(
        self, tape: Tape, steps: tuple[int, int], run: int, block: Block | None
    ) -> Sequence[np.ndarray[Any, Any] | None]:
        """One block of bars for members with a compiled decider, shared among the threads.

        Without `block` the bars lie before the window: they are shown, and nothing comes of it.
        """
        begin, end = (int(tape.steps[step]) for step in steps)
        length = end - begin
        first, last, _ = self._deciders[0].together[run]
        parts = []
        for instrument, (places, bars) in tape.parts.items():
            low, high = (int(np.searchsorted(places, row)) for row in (begin, end))
            if high > low:
                decider = self._deciders[instrument].together[run][2]
                decider.look(bars, low, high - low)
                parts.append((decider, places[low:high] - begin))
        each = max(1, BLOCK_CELLS // length)
        failed: dict[int, StrategyFailed] = {}

        def ask(decider: GroupDecider, at: int, targets: Floats) -> None:
            wrong = decider.on_bars(at - first, targets)
            for member, error in (wrong or {}).items():
                failed.setdefault(first + member, error)

        def work(thread: int, piece: int) -> np.ndarray[Any, Any] | None:
            at = first + piece * each
            members = min(each, last - at)
            targets = self._desk(thread, members, length)
            for decider, places in parts:
                if len(places) == length:
                    ask(decider, at, targets)
                else:
                    own = np.empty((members, len(places)))
                    ask(decider, at, own)
                    targets[:, places] = own
            return None if block is None else self._books.account(thread, at, targets, block)

        made = self._crew.each(work, -(-(last - first) // each))
        for place in sorted(failed.keys() - self._errors.keys()):
            self._take_out(place, failed[place])
            self._books.retire(place)
        return made

    def _decide_one_by_one(self, tape: Tape) -> Iterator[list[np.ndarray[Any, Any] | None]]:
        """Members whose own decider is asked: for the whole tape, in one thread, since it may be anybody's code.

        The books of neighbours are kept together, by the other threads while the next ones are asked.
        """
        begun: Callable[[], list[np.ndarray[Any, Any] | None]] | None = None
        try:
            for place, asked, until, failure in self._asked(tape):
                for steps in tape.blocks(BLOCK_CELLS, tape.warm, until):
                    if begun is not None:
                        finish, begun = begun, None
                        yield finish()
                    begun = self._begin_accounts(place, asked, tape, steps)
                if failure is not None:
                    if begun is not None:
                        finish, begun = begun, None
                        yield finish()
                    self._take_out(place, failure)
        finally:
            last = begun() if begun is not None else []
        yield last

    def _asked(self, tape: Tape) -> Iterator[tuple[int, list[Floats], int, StrategyFailed | None]]:
        """The first of some neighbours, the targets of each, up to which step they are good, and why no further."""
        rows: dict[int, Sequence[Bar]] = {}
        last = len(tape.steps) - 1
        most = max(1, ASKED_CELLS // max(1, len(tape)))
        first = 0
        asked: list[Floats] = []
        for place in sorted(self._deciders[0].alone):
            if place in self._errors:
                continue
            targets, known, failure = self._ask(place, tape, rows)
            if asked and (failure is not None or place != first + len(asked) or len(asked) == most):
                yield first, asked, last, None
                asked = []
            if failure is not None:
                yield place, [targets], int(np.searchsorted(tape.steps, known, side="right")) - 1, failure
                continue
            if not asked:
                first = place
            asked.append(targets)
        if asked:
            yield first, asked, last, None

    def _ask(self, place: int, tape: Tape, rows: dict[int, Sequence[Bar]]) -> tuple[Floats, int, StrategyFailed | None]:
        """Targets of one member, how many rows they are good for, and why for no more."""
        targets, known, failure = np.empty(0), len(tape), None
        for instrument, (places, bars) in tape.parts.items():
            one = self._deciders[instrument].alone[place]
            if one.wants_rows and instrument not in rows:
                rows[instrument] = list(bars.rows())
            try:
                own = one.targets(bars, rows.get(instrument))
            except StrategyFailed as error:
                own = error.targets
                if places[len(own)] < known:
                    known, failure = int(places[len(own)]), error
            if len(own) == len(tape):
                return own, known, failure
            if not len(targets):
                targets = np.full(len(tape), np.nan)
            targets[places[: len(own)]] = own
        return targets, known, failure

    def _begin_accounts(
        self, place: int, targets: Sequence[Floats], tape: Tape, steps: tuple[int, int]
    ) -> Callable[[], list[np.ndarray[Any, Any] | None]]:
        """Members from `place` on, each with a target per row, through these steps."""
        begin, end = (int(tape.steps[step]) for step in steps)
        block, each = self._books.read(tape, *steps), max(1, BLOCK_CELLS // (end - begin))

        def work(thread: int, piece: int) -> np.ndarray[Any, Any] | None:
            at = piece * each
            own = targets[at : at + each]
            desk = self._desk(thread, len(own), end - begin)
            for line, whole in zip(desk, own, strict=True):
                line[:] = whole[begin:end]
            return self._books.account(thread, place + at, desk, block)

        return self._crew.begin(work, -(-len(targets) // each))

    def _desk(self, thread: int, members: int, rows: int) -> Floats:
        """Room for targets that each thread uses again and again."""
        if len(self._desks[thread]) < members * rows:
            self._desks[thread] = np.empty(max(members * rows, BLOCK_CELLS))
        return self._desks[thread][: members * rows].reshape(members, rows)

    def _emit_fills(self) -> Iterator[Result | MemberRows]:
        """Hand over what was gathered, each member's in the order of time."""
        if not self._gathered:
            return
        gathered, self._fills, self._gathered = self._fills, [], 0
        instruments = self._arrivals.names if self._several else None
        for places, offsets, columns in fills_of(gathered, len(self._names), TOGETHER, instruments):
            if self._alone:
                yield Result("fills", columns, append=True)
            else:
                yield MemberRows("fills", [self._names[place] for place in places], offsets, columns)
        self._books.release()

    def _emit_equity(self) -> Iterator[MemberRows]:
        """Kept equity of those that have not failed, where it lies; all see the same times."""
        grid = self._books.grid
        points, interval = grid.points, grid.interval
        times, equity = np.tile(grid.ends(), min(TOGETHER, len(self._names))), grid.close()
        for first in range(0, len(self._names) if points else 0, TOGETHER):
            places = range(first, min(first + TOGETHER, len(self._names)))
            own = [place for place in places if place not in self._errors]
            values = equity[first * points : places[-1] * points + points]
            if len(own) < len(places):
                values = np.concatenate([equity[place * points : (place + 1) * points] for place in own or [0]])
            if own:
                columns = equity_of(times[: len(own) * points], values[: len(own) * points], interval)
                yield MemberRows(
                    "equity", [self._names[place] for place in own], np.arange(len(own) + 1) * points, columns
                )

    def _results(self, rows: pa.RecordBatch) -> Iterator[Result]:
        """What the only portfolio keeps."""
        told = rows.slice(0, 1).to_pylist()[0]
        if not self._errors:
            grid = self._books.grid
            yield Result("equity", equity_of(grid.ends(), grid.equity()[0], grid.interval))
        parameters = {"parameters": msgspec.json.decode(told["parameters"])}
        yield Result("statistics", {key: value for key, value in told.items() if key not in OF_ROWS_ALONE} | parameters)

    def _take_out(self, place: int, error: StrategyFailed) -> None:
        self._errors[place] = error
        if self._alone or len(self._errors) == len(self._members):
            raise next(iter(self._errors.values()))

    def _skipped(self) -> int:
        return sum(one.skipped_decisions for deciders in self._deciders.values() for one in deciders.crossings())

    def _tell_of_skips(self) -> None:
        """Nothing traded, and nobody would know why."""
        bars = self._books.rows
        if not bars:
            self._log.warning(
                "no bar came to the portfolios, so nothing was decided; is the phase's window in the data?"
            )
        elif not self._books.traded_rows:
            self._log.warning(
                "nothing traded in any of %s bars (volume 0, or is_empty), so no order could fill; where the volume "
                "is not known leave its column out, or empty",
                f"{bars:,}",
            )
        skipping = sum(decider.num_skipping for decider in self._deciders[0].crossings())
        if self._skipped() - self._skipped_warming == bars * skipping > 0:
            self._log.warning(
                "%s of the portfolios decided nothing: each of %s bars has one price only "
                "(open = high = low = close), and `skip_single_price` passes over those; "
                "make longer bars, or set `skip_single_price: false`",
                f"{skipping:,}",
                f"{bars:,}",
            )


def _class_name(strategy: Strategy) -> str:
    return f"{type(strategy).__module__}.{type(strategy).__qualname__}"
