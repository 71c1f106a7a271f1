"""What a book's states, joins and records are, case by case."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from pipeline import StateMismatch
from stages.books import syncing, turn
from stages.books.keeper import BookKeeper, BookState
from stages.books.kept import Kept
from stages.books.rule import BookRule
from stages.schemas import Names, Scales
from tests.stages.books.groups import FUTURES, NEXT, SPOT, UNCOUNTED, Event, received

A = "A.VENUE"


class Told:
    """A keeper that is given events, and all that came of it."""

    def __init__(self, rule: BookRule, depth: int = 0, every_ns: int = 0, scales: Scales = Scales(2, 1)) -> None:  # noqa: B008
        self.names, self.scales, self.given = Names(), scales, 0
        self.books = BookKeeper(lambda name: rule, scales, self.names, depth=depth, every_ns=every_ns)
        self.kept: Kept | None = None

    def __call__(self, *events: Event) -> Told:
        self.kept = self.books.apply(received(events, self.names, self.scales, first_seq=self.given))
        self.given += len(events)
        return self

    def rows(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = getattr(self.kept, kind).to_pylist()
        return found

    def events(self) -> list[tuple[Any, ...]]:
        names = ("kind", "seq_expected", "seq_got", "missing")
        return [tuple(row[name] for name in names) for row in self.rows("quality")]

    def levels(self, name: str = A) -> tuple[list[tuple[float, float]], ...]:
        return tuple(
            [(price / 100, size / 10) for price, size in zip(*(a.tolist() for a in side), strict=True)]
            for side in self.books.book(name)
        )

    @property
    def asked(self) -> list[str]:
        assert self.kept is not None
        return [request.instrument_id for request in self.kept.requests]

    @property
    def state(self) -> BookState:
        return self.books.state(A)


def levels(*told: float) -> list[tuple[str, str]]:
    """Price, size, price, size ..."""
    return [(str(price), str(size)) for price, size in zip(told[::2], told[1::2], strict=True)]


def spot(first: int, last: int, bids: Sequence[float] = (), asks: Sequence[float] = (), name: str = A) -> Event:
    return Event(name, levels(*bids), levels(*asks), last, first, time=last * 1000)


def shot(sequence: int | None, bids: Sequence[float] = (10, 1), asks: Sequence[float] = (11, 1), **told: Any) -> Event:
    return Event(A, levels(*bids), levels(*asks), sequence, snapshot=True, **told)


def test_a_book_goes_from_empty_over_syncing_to_live_with_what_was_kept_meanwhile() -> None:
    told = Told(SPOT)
    assert told.state == BookState.EMPTY
    told(spot(1, 2, [9, 1]), spot(3, 5, [10, 3]), spot(6, 6, asks=[11, 0, 12, 2]))
    assert told.state == BookState.SYNCING and told.asked == [A]
    assert not told.rows("deltas") and not told.rows("quotes") and not told.events()
    told(shot(4))
    assert told.state == BookState.LIVE and not told.asked and not told.events()
    assert told.levels() == ([(10.0, 3.0)], [(12.0, 2.0)])
    rows = told.rows("deltas")
    assert [(row["action"], row["side"], row["price"], row["flags"]) for row in rows] == [
        (4, 0, Decimal(0), 32),
        (1, 1, Decimal(10), 32),
        (1, 2, Decimal(12), 32 | 128),
    ]
    assert {row["sequence"] for row in rows} == {6} and {row["ingest_seq"] for row in rows} == {3}
    (quote,) = told.rows("quotes")
    assert (quote["bid_price"], quote["bid_size"], quote["ask_price"], quote["ask_size"]) == (10, 3, 12, 2)
    assert quote["flags"] == 64


@pytest.mark.parametrize(
    ("first", "last", "fits"), [(4, 5, True), (5, 5, True), (5, 9, True), (6, 6, False), (3, 4, None)]
)
def test_the_first_spot_update_behind_a_snapshot_covers_the_next_number(
    first: int, last: int, fits: bool | None
) -> None:
    """U <= L + 1 <= u; what the snapshot has already (None) is no fault and changes nothing."""
    for before in (True, False):
        told = Told(SPOT)
        update = spot(first, last, [10, 7])
        told(update, shot(4)) if before else told(shot(4), update)
        if fits is False and before:
            assert told.state == BookState.SYNCING and told.asked == [A, A], "older than the updates: ask again"
        elif fits is False:
            assert told.events() == [("gap", 5, 6, 1)]
        else:
            assert told.state == BookState.LIVE and not told.events()
            assert told.levels()[0] == [(10.0, 7.0 if fits else 1.0)]


@pytest.mark.parametrize(
    ("first", "last", "previous", "fits"),
    [(3, 5, 2, True), (5, 6, 4, True), (4, 4, 3, None), (6, 7, 3, True), (7, 8, 6, False)],
)
def test_the_first_futures_update_behind_a_snapshot_begins_no_later_than_it(
    first: int, last: int, previous: int, fits: bool | None
) -> None:
    """U <= L <= u or pu == L, or the snapshot lies between two updates of the symbol (numbers are shared by all)."""
    for before in (True, False):
        told = Told(FUTURES)
        update = Event(A, levels(10, 7), [], last, first, previous)
        told(update, shot(4)) if before else told(shot(4), update)
        if fits is False and before:
            assert told.asked == [A, A]
        elif fits is False:
            assert told.events() == [("gap", 4, 6, None)]
        else:
            assert told.state == BookState.LIVE and not told.events()
            assert told.levels()[0] == [(10.0, 7.0 if fits else 1.0)]


def test_1_3_2_4_is_one_gap_and_one_late_update() -> None:
    told = Told(SPOT)(shot(0), spot(1, 1, [10, 2]), spot(3, 3, [10, 4]), spot(2, 2, [9, 3]), spot(4, 4, [8, 5]))
    assert told.events() == [("gap", 2, 3, 1), ("out_of_order", 3, 2, None)]
    assert told.asked == [A] and told.levels()[0] == [(10.0, 2.0)], "the last good book stays"
    told(shot(1, [10, 2]))
    assert [event[0] for event in told.events()] == ["resync"]
    assert told.levels()[0] == [(10.0, 4.0), (9.0, 3.0), (8.0, 5.0)], "the late one was put in its place"


def test_a_second_hole_while_syncing_is_told_and_needs_a_snapshot_beyond_it() -> None:
    told = Told(SPOT)(shot(0), spot(1, 1), spot(3, 3), spot(6, 6), spot(7, 7, [9, 9]))
    assert told.events() == [("gap", 2, 3, 1), ("gap", 4, 6, 2)] and told.asked == [A]
    told(shot(2))
    assert told.state == BookState.SYNCING and told.asked == [A]
    told(shot(5))
    assert told.state == BookState.LIVE and told.levels()[0] == [(10.0, 1.0), (9.0, 9.0)]


def test_a_gap_says_from_when_to_when_nothing_is_known() -> None:
    told = Told(SPOT)(shot(0), spot(1, 1)._replace(recv=50), spot(3, 3)._replace(recv=70))
    (gap,) = told.rows("quality")
    assert (gap["gap_start"].value, gap["gap_end"].value) == (50, 70)
    told(shot(3)._replace(recv=90))
    (resync,) = told.rows("quality")
    assert (resync["gap_start"].value, resync["gap_end"].value) == (50, 90)


def test_messages_that_change_nothing_move_the_sequence_and_are_not_published() -> None:
    told = Told(SPOT)(shot(0), spot(1, 1, [10, 2]), spot(2, 4), spot(5, 5, [10, 3]))
    assert not told.events()
    assert [row["sequence"] for row in told.rows("deltas")] == [0, 0, 0, 1, 5]


def test_overlapping_updates_leave_nothing_out_and_are_applied() -> None:
    told = Told(SPOT)(shot(0), spot(1, 3, [10, 2]), spot(2, 5, [10, 3]))
    assert not told.events() and told.levels()[0] == [(10.0, 3.0)]


def test_a_snapshot_of_a_live_book_is_not_merged_into_it_and_a_repeated_one_is_told() -> None:
    told = Told(SPOT)(shot(0), spot(1, 1, [10, 2]), shot(1, [5, 5]))
    assert not told.events() and told.levels()[0] == [(10.0, 2.0)]
    assert told.books.counts["ignored_snapshots"] == 1
    told(shot(0))
    assert told.events() == [("duplicate", None, 0, None)]


def test_a_snapshot_in_the_stream_replaces_the_book() -> None:
    told = Told(NEXT)
    told(Event(A, levels(1, 1), [], 6))
    assert told.state == BookState.EMPTY and not told.asked and told.books.counts["unstarted"] == 1
    told(shot(7, time=1), Event(A, levels(10, 4), [], 8), shot(20, [3, 3], time=2), Event(A, levels(3, 4), [], 21))
    assert not told.events() and told.levels() == ([(3.0, 4.0)], [(11.0, 1.0)])
    told(Event(A, levels(3, 4), [], 23))
    assert told.events() == [("gap", 22, 23, 1)] and told.asked == [A]
    told(Event(A, levels(3, 9), [], 24), shot(30, time=3))
    assert [event[0] for event in told.events()] == ["resync"] and told.levels()[0] == [(10.0, 1.0)]


def test_a_counter_that_begins_anew_is_a_snapshot_and_no_gap() -> None:
    told = Told(NEXT)(shot(7), Event(A, levels(10, 4), [], 8), Event(A, levels(5, 5), levels(6, 6), 1))
    assert not told.events() and told.levels() == ([(5.0, 5.0)], [(6.0, 6.0)])
    told(Event(A, levels(5, 7), [], 2))
    assert not told.events() and told.levels()[0] == [(5.0, 7.0)]


def test_a_book_that_is_crossed_is_told_once_until_it_is_not() -> None:
    told = Told(UNCOUNTED)
    told(
        shot(None), Event(A, levels(12, 1), []), Event(A, levels(12, 2), []),
        Event(A, levels(12, 0), []), Event(A, levels(11, 1), []),
    )  # fmt: skip
    assert [event[0] for event in told.events()] == ["crossed", "crossed"]
    assert "1200e-2" in told.rows("quality")[0]["detail"]
    assert [row["flags"] & 4 for row in told.rows("quotes")] == [0, 4, 4, 0, 4]
    assert [row["flags"] & 4 for row in told.rows("deltas")] == [0, 0, 0, 4, 4, 0, 4]


def test_what_falls_off_the_end_of_a_cut_book_is_published_as_gone() -> None:
    told = Told(msgspec.structs.replace(UNCOUNTED, depth=2))
    told(shot(None, [10, 1, 9, 1, 8, 1], [11, 1]), Event(A, levels(9.5, 1), []))
    assert told.levels()[0] == [(10.0, 1.0), (9.5, 1.0)]
    rows = [(row["action"], float(row["price"]), row["flags"]) for row in told.rows("deltas")]
    assert rows == [(4, 0, 32), (1, 10, 32), (1, 9, 32), (1, 11, 160), (2, 9.5, 0), (3, 9, 128)]


def test_quotes_beyond_what_a_full_snapshot_knows_may_be_bad() -> None:
    told = Told(msgspec.structs.replace(SPOT, known_depth=1))
    told(shot(0), spot(1, 1, [9, 1]), spot(2, 2, [10, 0]), spot(3, 3, [10.5, 1]))
    assert [(float(row["bid_price"]), row["flags"]) for row in told.rows("quotes")] == [(10, 64), (9, 68), (10.5, 64)]


def test_tops_are_published_when_they_change_or_once_in_a_span_of_time() -> None:
    events = [
        shot(None, [10, 1, 9, 1, 8, 1], [11, 1])._replace(recv=100),
        Event(A, levels(7, 1), [], recv=101),
        Event(A, levels(9, 2), [], recv=102),
        Event(A, levels(10, 3), levels(12, 5), recv=110),
    ]
    every = Told(UNCOUNTED, depth=2)(*events).rows("snapshots")
    assert [row["ts_recv"].value for row in every] == [100, 102, 110]
    assert [(float(level["price"]), float(level["size"])) for level in every[-1]["bids"]] == [(10, 3), (9, 2)]
    assert [float(level["price"]) for level in every[0]["asks"]] == [11] and every[0]["depth"] == 2
    spaced = Told(UNCOUNTED, depth=2, every_ns=10)(*events).rows("snapshots")
    assert [row["ts_recv"].value for row in spaced] == [100, 110]


def test_too_many_updates_to_keep_are_dropped_from_the_oldest_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "MAX_BUFFERED_ROWS", 3)
    told = Told(SPOT)(*(spot(n, n, [10, n]) for n in range(1, 7)))
    assert [event[0] for event in told.events()] == ["overflow_drop"] and told.books.counts["dropped"] == 3
    told(shot(2))
    assert told.asked == [A], "what would join it is gone"
    told(shot(3))
    assert told.levels()[0] == [(10.0, 6.0)]


def test_a_book_whose_snapshot_cannot_be_had_is_stale_in_the_end() -> None:
    told = Told(SPOT)(spot(1, 1))
    for tried in range(turn.MAX_TRIES):
        assert told.state == BookState.SYNCING, tried
        told.books.refused(A)
    assert told.state == BookState.STALE
    assert told(shot(1)).state == BookState.LIVE


def test_a_lost_connection_is_a_gap_only_where_updates_cannot_tell() -> None:
    told, counted = Told(UNCOUNTED)(shot(None)), Told(SPOT)(shot(1))
    assert [request.instrument_id for request in told.books.interrupted([A, "B"])] == [A]
    assert told.state == BookState.SYNCING
    assert counted.books.interrupted([A]) == [] and counted.state == BookState.LIVE
    assert [event[0] for event in told(shot(None)).events()] == ["resync"]


def test_prices_and_sizes_of_many_places_are_kept_exactly() -> None:
    told = Told(UNCOUNTED, depth=1, scales=Scales(12, 11))
    told(Event(A, [("0.000000000123", "9.00000000001")], [("0.5", "1")], snapshot=True))
    (quote,) = told.rows("quotes")
    assert quote["bid_price"] == Decimal("0.000000000123") and quote["bid_size"] == Decimal("9.00000000001")
    assert told.rows("snapshots")[0]["bids"][0]["price"] == Decimal("0.000000000123")


def test_batches_of_broken_groups_or_other_scales_are_refused() -> None:
    told = Told(SPOT)
    batch = received([spot(1, 1, [10, 1, 9, 1])], told.names, told.scales)
    with pytest.raises(ValueError, match="whole event groups"):
        told.books.apply(batch.slice(0, 1))
    with pytest.raises(ValueError, match="as received at"):
        told.books.apply(received([spot(1, 1)], told.names, Scales(3, 1)))
    both = [batch.slice(0, 1), received([spot(1, 1, [10, 1], name="B")], told.names, told.scales)]
    with pytest.raises(ValueError, match="one instrument in each event group"):
        told.books.apply(pa.Table.from_batches(both).combine_chunks().to_batches()[0])


def test_an_empty_batch_is_nothing() -> None:
    told = Told(SPOT)(shot(0))
    kept = told.books.apply(received([shot(0)], told.names, told.scales).slice(0, 0))
    assert [kept.deltas.num_rows, kept.quotes.num_rows, kept.quality.num_rows, kept.requests] == [0, 0, 0, []]


def test_a_rule_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="exactly where snapshots come in the stream"):
        BookRule(chain="none", join="stream")
    with pytest.raises(ValueError, match="checksum_places"):
        BookRule(chain="none", join="stream", snapshots="stream", checksum=lambda bids, asks: 0)


def test_a_keeper_of_other_settings_refuses_a_snapshot() -> None:
    told = Told(SPOT)(shot(0))
    with pytest.raises(StateMismatch):
        Told(SPOT, depth=3).books.restore(told.books.snapshot())
