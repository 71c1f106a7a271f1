"""A feed's rows are cut to a window and its warm-up by their times alone, wherever its batches begin and end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from pipeline import NS_UTC, Batch, InputError
from pipeline import windows as w
from pipeline.windows import Limits, RowsHash, WarmUp, Window, WindowCut, iso, moment_said

BAR = 10


def batch(times: Sequence[int]) -> Batch:
    return Batch(pa.record_batch({"ts_event": pa.array(times, pa.int64()).cast(NS_UTC)}))


def sent(times: Sequence[int], limits: Limits, size: int = 1000, lateness: int = 0) -> tuple[list[int], WindowCut]:
    """Times of the rows sent, for a feed that gives `times` in batches of `size` until it is told to stop."""
    cut = WindowCut(limits)
    found: list[int] = []
    for begin in range(0, len(times), size):
        batches, done = cut.take(batch(times[begin : begin + size]), lateness)
        for part in batches:
            stamps = part.times()
            assert stamps is not None
            found += stamps.tolist()
        if done:
            break
    return found, cut


def test_a_window_takes_its_begin_and_leaves_its_end() -> None:
    assert sent(range(0, 100, 10), Limits(from_ns=30, until_ns=60))[0] == [30, 40, 50]
    assert sent(range(0, 50, 10), Limits(until_ns=30))[0] == [0, 10, 20]
    assert sent(range(0, 50, 10), Limits(from_ns=30))[0] == [30, 40]


def test_a_warm_up_of_some_time_comes_along_without_being_held_back() -> None:
    limits = Limits(from_ns=50, until_ns=70, warmup=WarmUp(duration_ns=25))
    found, cut = sent(range(0, 100, 10), limits)
    assert found == [30, 40, 50, 60]
    assert cut.warmup_from_ns == 30
    assert not WindowCut(limits).holds


def test_bars_of_warm_up_are_counted_where_there_were_any() -> None:
    times = [*range(0, 100, BAR), 1000, 1010, 1020]  # nothing happened in between
    found, cut = sent(times, Limits(from_ns=1010, warmup=WarmUp(count=3, every_ns=BAR)))
    assert found == [80, 90, 1000, 1010, 1020]
    assert cut.warmup_from_ns == 80


def test_ticks_of_one_bar_count_once_and_come_along_together() -> None:
    ticks = [0, 1, 2, 10, 11, 12, 20, 25, 30, 31]
    assert sent(ticks, Limits(from_ns=30, warmup=WarmUp(count=2, every_ns=BAR)))[0] == [10, 11, 12, 20, 25, 30, 31]


def test_the_bar_that_straddles_the_windows_start_is_whole_and_not_counted_as_warm_up() -> None:
    ticks = [0, 10, 20, 21, 24, 26, 30]
    assert sent(ticks, Limits(from_ns=25, warmup=WarmUp(count=1, every_ns=BAR)))[0] == [10, 20, 21, 24, 26, 30]
    assert sent(ticks, Limits(from_ns=25, warmup=WarmUp(every_ns=BAR)))[0] == [20, 21, 24, 26, 30]


def test_less_data_than_the_warm_up_wants_is_all_of_it() -> None:
    assert sent([10, 20, 30], Limits(from_ns=20, warmup=WarmUp(count=99, every_ns=BAR)))[0] == [10, 20, 30]
    found, cut = sent([20, 30], Limits(from_ns=20, warmup=WarmUp(count=99, every_ns=BAR)))
    assert (found, cut.warmup_from_ns) == ([20, 30], None)


def test_nothing_is_sent_where_no_row_of_the_window_comes() -> None:
    assert sent([10, 20], Limits(from_ns=90, warmup=WarmUp(count=5, every_ns=BAR)))[0] == []


@pytest.mark.parametrize("lateness", [0, 30])
@pytest.mark.parametrize("seed", range(6))
def test_the_rows_do_not_depend_on_how_the_feed_cut_them(
    seed: int, lateness: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(w, "TRIM_ROWS", 5)  # let go of old rows often
    random = np.random.default_rng(seed)
    steps = random.integers(-lateness, 30, 200) if lateness else random.integers(0, 30, 200)
    times = np.maximum(np.cumsum(steps), 0).tolist()
    middle, late = int(np.median(times)), int(np.quantile(times, 0.8))
    for warmup in (WarmUp(), WarmUp(duration_ns=77), WarmUp(count=7, every_ns=BAR), WarmUp(every_ns=BAR)):
        for rows in (None, 150):
            limits = Limits(from_ns=middle + 3, until_ns=late, warmup=warmup, rows=rows)
            whole, cut = sent(times, limits, lateness=max(times))
            for size in (1, 3, 50):
                again, other = sent(times, limits, size, lateness=max(times))
                assert again == whole
                assert other.warmup_from_ns == cut.warmup_from_ns
                assert other.shortened == cut.shortened


def test_only_what_is_needed_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(w, "TRIM_ROWS", 10)
    cut = WindowCut(Limits(from_ns=100_000, warmup=WarmUp(count=5, every_ns=BAR)))
    for time in range(0, 50_000, BAR):
        assert cut.take(batch([time])) == ([], False)
        assert cut._held_rows <= 2 * 5 + 10 + 1


def test_a_warm_up_too_large_to_be_held_back_says_what_to_write_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(w, "MAX_HELD_BYTES", 100)
    monkeypatch.setattr(w, "TRIM_ROWS", 0)
    cut = WindowCut(Limits(from_ns=10_000, warmup=WarmUp(count=900, every_ns=BAR)))
    with pytest.raises(InputError, match=r"900 bars of 10ns .* write a duration, such as `warmup: 30d`"):
        cut.take(batch(range(0, 9000, BAR)))


def test_a_limit_counts_rows_from_the_beginning_of_the_data() -> None:
    found, cut = sent(range(0, 100, 10), Limits(rows=5, from_ns=30), size=2)
    assert found == [30, 40]
    assert cut.shortened


def test_a_feed_without_times_cannot_be_cut_to_a_window() -> None:
    with pytest.raises(InputError, match="a window needs rows with an event time"):
        WindowCut(Limits(from_ns=1)).take(Batch(pa.record_batch({"n": [1]})))


def test_the_hash_of_the_rows_a_feed_gave_does_not_depend_on_batches() -> None:
    hashes = set()
    for size in (1, 3, 10):
        given = RowsHash()
        for begin in range(0, 10, size):
            given.update(batch(range(10)[begin : begin + size]))
        hashes.add(given.hexdigest())
    assert len(hashes) == 1


def test_windows_and_warm_ups_are_said_as_people_write_them() -> None:
    assert iso(0) == "1970-01-01T00:00:00Z"
    assert iso(1_500_000_000) == "1970-01-01T00:00:01.5Z"
    assert moment_said(86_400_000_000_000) == "1970-01-02"
    assert moment_said(60_000_000_000) == "1970-01-01 00:01:00"
    assert Window(from_ns=0).said() == "1970-01-01 .."
    assert Window(until_ns=0).said() == ".. 1970-01-01"
    assert Window().said() == ""
    assert WarmUp(count=500, every_ns=60_000_000_000).said() == "500 bars of 1m"
    assert WarmUp(duration_ns=3_600_000_000_000).said() == "1h"
    assert WarmUp().said() == "none"
