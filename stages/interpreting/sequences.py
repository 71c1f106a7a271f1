"""Trades and quotes by their venue's numbers: what is missing, came late, or came twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa

from stages.messages import Messages
from stages.schemas import AGGREGATED, BLOCK, NO_TRADE, Records
from stages.venues import Venue

from .recent import Content, Ints, Recent

MAX_MISSING: Final = 8192
"""Numbers of missing trades that are remembered, to know one that comes late; of more, the oldest are forgotten."""


_SERIES = ("", AGGREGATED, BLOCK)
"""Types of trades that have numbers of their own, and what all others share."""


class Sequences:
    """Checks rows in the order they came, each instrument's by itself.

    Trades: numbers one after another where the venue is known to give them so, else rising; those without a number by
    their id. A trade that comes again is left out, and so is a quote older than the last: a best quote is what holds
    now. Whatever is left out or missing is one quality event.
    """

    def __init__(self, venue: Venue) -> None:
        self.chain = venue.trade_sequence
        self._trades: dict[str, _Trades] = {}
        self._quotes: dict[str, int] = {}

    def checked(self, kind: str, batch: pa.RecordBatch, messages: Messages, records: Records) -> pa.RecordBatch:
        """The batch without what must not be in it."""
        if kind == "trade":
            return self._checked_trades(batch, messages, records)
        if kind == "quote":
            return self._checked_quotes(batch, messages, records)
        return batch

    def unread(self, instrument: str, ingest_seq: int) -> None:
        """A trade of this instrument came and could not be read: that one is missing there is told already."""
        for series in _SERIES:
            self._trades.setdefault(instrument + series, _Trades()).unread.append(ingest_seq)

    def _checked_trades(self, batch: pa.RecordBatch, messages: Messages, records: Records) -> pa.RecordBatch:
        instruments, kinds = batch.column("instrument_id"), batch.column("trade_type")
        codes = np.asarray(instruments.indices).astype(np.int64) * len(_SERIES)
        words = kinds.dictionary.to_pylist()
        for place, word in enumerate(_SERIES):
            if word in words:
                indices = kinds.indices.fill_null(-1) if kinds.null_count else kinds.indices
                codes += place * (np.asarray(indices) == words.index(word))
        numbers = batch.column("sequence")
        numbered = self.chain != "none" and not numbers.null_count
        ids = _ids(numbers) if numbered else batch.column("trade_id").to_pylist()
        told = _Told(batch, messages, records, "trade")
        out: list[int] = []
        for code, rows in _by_code(codes):
            instrument, series = divmod(code, len(_SERIES))
            told.instrument = instruments.dictionary[instrument].as_py()
            state = self._trades.setdefault(told.instrument + _SERIES[series], _Trades())
            if not numbered:
                out += self._named(state, rows, ids, told)
            elif self._run_on(state, ids[rows]):
                last = int(rows[-1])
                if state.unread:
                    state.unread_before(told.seq(last))
                state.remember(told, rows, ids)
            else:
                out += self._numbered(state, rows, ids, told)
        if NO_TRADE in words:
            out += np.flatnonzero(np.asarray(kinds.indices.fill_null(-1)) == words.index(NO_TRADE)).tolist()
        return _without(batch, out)

    def _run_on(self, state: _Trades, ids: Ints) -> bool:
        """Whether all of them follow the last one; then the last one is the newest."""
        if state.highest is None:
            state.highest = int(ids[0]) - 1
        if self.chain == "monotone":
            follows = ids[0] > state.highest and (ids[1:] > ids[:-1]).all()
        else:
            follows = ids[0] == state.highest + 1 and (ids[1:] == ids[:-1] + 1).all()
        if follows:
            state.highest = int(ids[-1])
        return bool(follows)

    def _numbered(self, state: _Trades, rows: Ints, ids: Any, told: _Told) -> list[int]:
        out = []
        assert state.highest is not None
        for row in rows.tolist():
            number = int(ids[row])
            missing = number - state.highest - 1
            if missing >= 0:
                unread = state.unread_before(told.seq(row))
                if missing > unread and self.chain == "next":
                    told.event(row, "gap", seq_expected=state.highest + 1, seq_got=number, missing=missing,
                               gap_start=state.newest, action_taken="none: trades are not sent again")  # fmt: skip
                    state.lack(state.highest + 1, number)
                state.highest = number
            elif number in state.missing or (self.chain == "monotone" and number not in state.recent):
                state.missing.discard(number)
                told.event(row, "out_of_order", seq_expected=state.highest + 1, seq_got=number,
                           action_taken="kept where it came")  # fmt: skip
            else:
                out.append(row)
                self._again(state, number, row, told)
                continue
            state.remember(told, np.array([row]), ids)
        return out

    def _named(self, state: _Trades, rows: Ints, ids: Any, told: _Told) -> list[int]:
        """Trades with ids that are no numbers; those without any cannot be told apart, and are all kept."""
        out = []
        for row in rows.tolist():
            if ids[row] is None:
                continue
            if ids[row] in state.recent:
                out.append(row)
                self._again(state, ids[row], row, told)
            else:
                state.remember(told, np.array([row]), ids)
        return out

    def _again(self, state: _Trades, name: int | str, row: int, told: _Told) -> None:
        number = name if isinstance(name, int) else None
        known = state.recent.get(name)
        if known is None or known == told.content.of(row):
            told.event(row, "duplicate", seq_got=number, action_taken="left out",
                       detail=f"trade {name} came before")  # fmt: skip
        else:
            told.event(row, "parse_error", seq_got=number, action_taken="left out", keep_raw=True,
                       detail=f"trade {name} came before with another price, size or side")  # fmt: skip

    def _checked_quotes(self, batch: pa.RecordBatch, messages: Messages, records: Records) -> pa.RecordBatch:
        numbers = batch.column("sequence")
        if numbers.null_count:
            return batch
        ids, instruments = _ids(numbers), batch.column("instrument_id")
        told = _Told(batch, messages, records, "quote")
        out: list[int] = []
        for code, rows in _by_code(np.asarray(instruments.indices)):
            name = told.instrument = instruments.dictionary[code].as_py()
            last, own = self._quotes.get(name, -1), ids[rows]
            if own[0] > last and (own[1:] > own[:-1]).all():
                self._quotes[name] = int(own[-1])
                continue
            for row in rows.tolist():
                number = int(ids[row])
                if number < last:
                    out.append(row)
                    told.event(row, "out_of_order", seq_expected=last + 1, seq_got=number, action_taken="left out")
                elif number == last:
                    out.append(row)
                    told.event(row, "duplicate", seq_got=number, action_taken="left out")
                last = max(last, number)
            self._quotes[name] = last
        return _without(batch, out)

    def snapshot(self) -> dict[str, Any]:
        return {
            "trades": {name: state.plain() for name, state in self._trades.items()},
            "quotes": dict(self._quotes),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._trades = {name: _Trades.of(plain) for name, plain in state["trades"].items()}
        self._quotes = dict(state["quotes"])


class _Trades:
    """What is remembered of one instrument's trades."""

    def __init__(self) -> None:
        self.highest: int | None = None
        self.newest: int | None = None
        """When the newest of them was received, ns."""
        self.missing: set[int] = set()
        self.unread: list[int] = []
        """`ingest_seq` of messages with trades that came and could not be read, since the newest."""
        self.recent = Recent()

    def remember(self, told: _Told, rows: Ints, ids: Any) -> None:
        """These rows came."""
        self.recent.remember(told.content, rows, ids)
        self.newest = told.received(int(rows[-1]))

    def unread_before(self, ingest_seq: int) -> int:
        """How many could not be read before this message; from here on they are no excuse any more."""
        count = sum(seq < ingest_seq for seq in self.unread)
        self.unread = self.unread[count:]
        return count

    def lack(self, first: int, end: int) -> None:
        """These numbers have not come."""
        self.missing.update(range(max(first, end - MAX_MISSING), end))
        if len(self.missing) > MAX_MISSING:
            self.missing = set(sorted(self.missing)[-MAX_MISSING:])

    def plain(self) -> dict[str, Any]:
        return {
            "highest": self.highest,
            "newest": self.newest,
            "missing": sorted(self.missing),
            "unread": list(self.unread),
            **self.recent.plain(),
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> _Trades:
        made = cls()
        made.highest, made.newest = plain["highest"], plain["newest"]
        made.missing, made.unread = set(plain["missing"]), list(plain["unread"])
        made.recent = Recent.of(plain)
        return made


class _Told:
    """Rows of one batch, looked at one instrument after another, and where events about them go."""

    def __init__(self, batch: pa.RecordBatch, messages: Messages, records: Records, channel: str) -> None:
        self.batch, self.channel, self.instrument = batch, channel, ""
        self._messages, self._records = messages, records

    @cached_property
    def content(self) -> Content:
        return Content(self.batch)

    def seq(self, row: int) -> int:
        """`ingest_seq` of the message a row came in."""
        seq: int = self.batch.column("ingest_seq")[row].as_py()
        return seq

    def received(self, row: int) -> int:
        """When it came, ns."""
        recv: int = self.batch.column("ts_recv")[row].value
        return recv

    def event(self, row: int, kind: str, **words: Any) -> None:
        at = int(np.searchsorted(self._messages.ingest_seq, self.seq(row)))
        if kind == "gap":
            words["gap_end"] = int(self._messages.ts_recv[at])
        self._records.quality(at, kind, channel=self.channel, instrument_id=self.instrument, **words)


def _by_code(codes: Ints) -> Iterator[tuple[int, Ints]]:
    """The rows of each code, codes rising."""
    if len(codes) == 1 or (codes == codes[0]).all():
        yield int(codes[0]), np.arange(len(codes))
        return
    order = np.argsort(codes, kind="stable")
    cuts = np.flatnonzero(np.diff(codes[order])) + 1
    for rows in np.split(order, cuts):
        yield int(codes[rows[0]]), rows


def _ids(column: pa.Array) -> Ints:
    ids: Ints = column.to_numpy(zero_copy_only=False).astype(np.int64)
    return ids


def _without(batch: pa.RecordBatch, rows: list[int]) -> pa.RecordBatch:
    if not rows:
        return batch
    keep = np.ones(batch.num_rows, np.bool_)
    keep[rows] = False
    return batch.filter(pa.array(keep))
