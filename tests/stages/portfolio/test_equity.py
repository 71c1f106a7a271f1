"""The kept equity: a function of the bars alone, of bounded size."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.portfolio.equity import DAY, HOUR, LADDER, MAX_POINTS, MINUTE, EquityGrid

MIDNIGHT = 1_704_067_200_000_000_000
SECOND = 1_000_000_000


def keep(ends: np.ndarray, cuts: list[int] | None = None) -> EquityGrid:
    """A grid of two members whose equity at a bar is the bar's number, and its negative."""
    grid = EquityGrid(2)
    places = sorted({0, *(cuts or []), len(ends)})
    for begin, end in itertools.pairwise(places):
        slots = grid.extend(ends[begin:end])
        for place, slot in enumerate(slots.tolist()):
            if slot >= 0:
                grid.values[:, slot] = (begin + place, -begin - place)
    return grid


def expected(ends: np.ndarray) -> tuple[str, list[int]]:
    """The finest interval with few enough buckets, and the last bar of each."""
    for name, step in LADDER.items():
        buckets = {(-(-int(end) // step) if step else place): place for place, end in enumerate(ends)}
        if len(buckets) <= MAX_POINTS or name == "1d":
            return name, list(buckets.values())
    raise AssertionError


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 9_000),
    step=st.sampled_from([SECOND, 7 * SECOND, MINUTE, 13 * MINUTE, HOUR, DAY]),
    seed=st.integers(0, 9),
    cuts=st.lists(st.integers(1, 9_000), max_size=6),
)
def test_the_kept_equity_is_the_last_of_each_bucket_however_bars_arrive(
    count: int, step: int, seed: int, cuts: list[int]
) -> None:
    gaps = np.random.default_rng(seed).integers(1, 4, count)
    ends = MIDNIGHT + step * np.cumsum(gaps)
    grid = keep(ends, [cut for cut in cuts if cut < count])
    name, last = expected(ends)
    assert grid.interval == name
    assert grid.equity()[0].tolist() == last
    assert grid.equity()[1].tolist() == [-place for place in last]
    assert grid.ends().tolist() == ends[last].tolist()


@pytest.mark.parametrize(("count", "interval"), [(2_000, "bar"), (2_001, "5m"), (10_000, "5m"), (10_001, "15m")])
def test_the_interval_grows_when_the_grid_is_full(count: int, interval: str) -> None:
    grid = keep(MIDNIGHT + MINUTE * np.arange(1, count + 1))
    assert grid.interval == interval
    assert grid.points <= MAX_POINTS


def test_one_bar_at_a_time_is_the_same() -> None:
    ends = MIDNIGHT + MINUTE * np.arange(1, 2_600)
    whole, single = keep(ends), keep(ends, list(range(len(ends))))
    assert whole.interval == single.interval == "5m"
    assert whole.equity().tobytes() == single.equity().tobytes()
    assert whole.ends().tobytes() == single.ends().tobytes()


def test_days_are_never_merged() -> None:
    grid = keep(MIDNIGHT + DAY * np.arange(1, 3_001))
    assert (grid.interval, grid.points) == ("1d", 3_000)


def test_each_interval_divides_the_next() -> None:
    steps = list(LADDER.values())[1:]
    assert all(after % before == 0 for before, after in itertools.pairwise(steps))


def test_the_grid_grows_while_somebody_looks_at_it() -> None:
    ends = MIDNIGHT + MINUTE * np.arange(1, 1_201)
    grid = EquityGrid(3)
    looked_at = []
    for begin in range(0, len(ends), 100):
        slots = grid.extend(ends[begin : begin + 100])
        grid.values[:, slots] = np.arange(begin, begin + 100) + np.array([[0], [5_000], [10_000]])
        looked_at.append(grid.equity())
    for view in looked_at:
        assert view[:, 0].tolist() == [0, 5_000, 10_000]
    assert grid.equity()[1].tolist() == list(range(5_000, 6_200))
