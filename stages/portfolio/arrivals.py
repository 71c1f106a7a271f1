"""Rows that arrive, made into a tape: whose bars are traded, in which order, and which bars make one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import InputError

from .bars import Bars, Times, timestamp
from .tape import Tape

if TYPE_CHECKING:
    from .portfolio import Portfolio

NEVER = -(2**63)
"""Where no bar has ended yet, ns."""
MOST_NAMES = 10
"""Instruments an error lists."""


class Arrivals(ABC):
    """Takes what arrives and gives tapes, whose rows are in the order of `bar_end`; refuses rows that are not."""

    def __init__(self, active_from_ns: int | None) -> None:
        self._active_from = NEVER if active_from_ns is None else active_from_ns
        self.names: list[str] = []
        """Instruments traded so far; `Tape.owners` counts them."""

    @abstractmethod
    def take(self, columns: pa.RecordBatch) -> Tape | None:
        """A tape of what may be worked on now, None for nothing."""

    def rest(self) -> Tape | None:
        """What was held back until now; the stream has ended. Raises `InputError` where a declared name never came."""
        return None

    @abstractmethod
    def snapshot(self) -> dict[str, Any]:
        """Who has come and what is held back, for `restore` of an equal one."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a snapshot."""

    @property
    def traded(self) -> str | None:
        """What is traded, in words; None where nobody said."""
        if len(self.names) > MOST_NAMES:
            return f"{len(self.names)} instruments"
        return ", ".join(self.names) or None

    def _tape(self, columns: pa.RecordBatch, owners: Times, steps: Times, ends: Times) -> Tape:
        warm = int(np.searchsorted(ends[steps[:-1]], self._active_from, side="right"))
        return Tape(columns, owners, steps, warm)


class OneInstrument(Arrivals):
    """Bars of the declared instrument; of the only one there is where none is declared. Every bar is a step."""

    def __init__(self, declared: str | None, active_from_ns: int | None) -> None:
        super().__init__(active_from_ns)
        self._declared = declared is not None
        self._instrument = declared
        self.names = [] if declared is None else [declared]
        self._others: set[str] = set()
        self._newest = (NEVER, NEVER)

    def take(self, columns: pa.RecordBatch) -> Tape | None:
        columns = self._of_ours(columns)
        if not columns.num_rows:
            return None
        tape = self._tape(
            columns, np.zeros(columns.num_rows, np.int64), np.arange(columns.num_rows + 1), _ends(columns)
        )
        starts, ends = tape.bars.times("bar_start"), tape.bars.times("bar_end")
        starts_before, ends_before = (
            np.concatenate([[last], times[:-1]]) for last, times in zip(self._newest, (starts, ends), strict=True)
        )
        _check_order(ends, ends_before)
        twice = np.flatnonzero((ends == ends_before) & (starts == starts_before) & (starts < ends))
        if len(twice):
            raise _twice(int(starts[twice[0]]), int(ends[twice[0]]))
        self._newest = int(starts[-1]), int(ends[-1])
        return tape

    def rest(self) -> Tape | None:
        if self._declared and self._others and self._newest == (NEVER, NEVER):
            names = ", ".join(sorted(self._others)[:MOST_NAMES])
            raise InputError(f"no bar was of instrument '{self._instrument}', all were of others: {names}")
        return None

    def snapshot(self) -> dict[str, Any]:
        return {
            "instrument": self._instrument,
            "names": list(self.names),
            "others": sorted(self._others),
            "newest": list(self._newest),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._instrument, self.names = state["instrument"], list(state["names"])
        self._others = set(state["others"])
        start, end = state["newest"]
        self._newest = start, end

    def _of_ours(self, columns: pa.RecordBatch) -> pa.RecordBatch:
        index = columns.schema.get_field_index("instrument_id")
        if index < 0 or not columns.num_rows:
            return columns
        ids = columns.column(index)
        found = sorted(str(name) for name in pc.unique(ids).to_pylist())
        if self._instrument is None and len(found) == 1:
            self._instrument = found[0]
            self.names = [found[0]]
        if found == [self._instrument]:
            return columns
        if not self._declared:
            names = ", ".join(sorted({*found, self._instrument or found[0]}))
            raise InputError(
                f"a portfolio trades one instrument, and its bars are of {names}; declare `instrument: {found[0]}`, "
                "or `instruments: all` to trade them from one account"
            )
        if len(self._others) < MOST_NAMES:
            self._others.update(found)
        return columns.filter(pc.equal(ids.cast(pa.utf8()), self._instrument))


class SeveralInstruments(Arrivals):
    """Bars of the declared instruments, or of all; those with one `bar_end` are a step, in the order of instruments.

    Rows of the newest step are held back until a later one begins, so that no batch cuts a step.
    """

    def __init__(self, declared: Sequence[str] | None, active_from_ns: int | None) -> None:
        super().__init__(active_from_ns)
        self._all = declared is None
        self.names = list(declared or ())
        self._missing = set(declared or ())
        self._others: set[str] = set()
        self._held: pa.RecordBatch | None = None
        self._newest = NEVER

    def take(self, columns: pa.RecordBatch) -> Tape | None:
        columns = self._of_ours(columns)
        if not columns.num_rows:
            return None
        ends = _ends(columns)
        _check_order(ends, np.concatenate([[self._newest], ends[:-1]]))
        self._newest = int(ends[-1])
        if self._held is not None:
            table = pa.Table.from_batches([self._held]).unify_dictionaries()
            columns = _joined(table, columns)
            ends = _ends(columns)
        cut = int(np.searchsorted(ends, self._newest, side="left"))
        self._held = columns.slice(cut)
        return self._in_steps(columns.slice(0, cut)) if cut else None

    def rest(self) -> Tape | None:
        if self._missing and self._others:
            missing, found = sorted(self._missing)[0], ", ".join(sorted(self._others)[:MOST_NAMES])
            raise InputError(f"no bar was of instrument '{missing}'; there were bars of {found}")
        held, self._held = self._held, None
        return None if held is None else self._in_steps(held)

    def snapshot(self) -> dict[str, Any]:
        return {
            "names": list(self.names),
            "missing": sorted(self._missing),
            "others": sorted(self._others),
            "held": self._held,
            "newest": self._newest,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.names, self._missing = list(state["names"]), set(state["missing"])
        self._others = set(state["others"])
        self._held, self._newest = state["held"], state["newest"]

    def _of_ours(self, columns: pa.RecordBatch) -> pa.RecordBatch:
        if not columns.num_rows:
            return columns
        found = [str(name) for name in pc.unique(_instruments(columns)).to_pylist()]
        if len(self._others) < MOST_NAMES:
            self._others.update(found)
        if self._all:
            self.names += [name for name in found if name not in self.names]
            return columns
        self._missing.difference_update(found)
        if set(found) <= set(self.names):
            return columns
        return columns.filter(pc.is_in(_instruments(columns), pa.array(self.names, pa.utf8())))

    def _in_steps(self, columns: pa.RecordBatch) -> Tape:
        ends = _ends(columns)
        owners = pc.index_in(_instruments(columns), pa.array(self.names, pa.utf8())).to_numpy().astype(np.int64)
        order = np.lexsort((owners, ends))
        if (np.diff(order) != 1).any():
            columns, owners = columns.take(pa.array(order)), owners[order]
        twice = np.flatnonzero((np.diff(ends) == 0) & (np.diff(owners) == 0))
        if len(twice):
            starts = Bars(columns).times("bar_start")
            raise _twice(int(starts[twice[0]]), int(ends[twice[0]]), f" of {self.names[owners[twice[0]]]}")
        steps = np.concatenate([[0], np.flatnonzero(np.diff(ends)) + 1, [len(ends)]])
        return self._tape(columns, owners, steps, ends)


def arrivals_of(recipes: Sequence[Portfolio], active_from_ns: int | None) -> Arrivals:
    """What the members trade, which is the same for all of a group."""
    wanted = {(recipe.instrument, recipe.instruments) for recipe in recipes}
    if len(wanted) > 1:
        names = sorted(str(several or one) for one, several in wanted)
        raise ValueError(f"portfolios of one group trade the same instruments, found {names}")
    ((one, several),) = wanted
    if several is None:
        return OneInstrument(one, active_from_ns)
    return SeveralInstruments(None if several == "all" else several, active_from_ns)


def _ends(columns: pa.RecordBatch) -> Times:
    return Bars(columns).times("bar_end")


def _instruments(columns: pa.RecordBatch) -> pa.Array:
    index = columns.schema.get_field_index("instrument_id")
    if index < 0:
        return pa.array([""] * columns.num_rows, pa.utf8())
    return pc.fill_null(columns.column(index).cast(pa.utf8()), "")


def _joined(before: pa.Table, columns: pa.RecordBatch) -> pa.RecordBatch:
    table = pa.concat_tables([before, pa.Table.from_batches([columns])]).unify_dictionaries().combine_chunks()
    return table.to_batches()[0]


def _check_order(ends: Times, ends_before: Times) -> None:
    back = np.flatnonzero(ends < ends_before)
    if len(back):
        this, last = timestamp(int(ends[back[0]])), timestamp(int(ends_before[back[0]]))
        raise InputError(
            f"expected bars in the order of bar_end, found one ending {this} after one ending {last}; "
            "sort the recording by time"
        )


def _twice(start: int, end: int, whose: str = "") -> InputError:
    return InputError(
        f"expected one bar{whose} for each interval, found two from {timestamp(start)} to {timestamp(end)}; "
        "leave one of them out, or bars of all but one price (`price: last`, bid, ask or mid) where they differ in that"
    )
