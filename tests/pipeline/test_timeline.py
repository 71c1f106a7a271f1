"""Replayed time: rows go when they are due, against absolute deadlines, over all feeds, however it is stopped."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import numpy as np
import pytest

from pipeline.errors import PenstockError
from pipeline.pacing import Pacing
from pipeline.testing import VirtualClock
from pipeline.timeline import Timeline

SECOND = 1_000_000_000


class Feed:
    """Gives its stamps (seconds) by a timeline; notes what went, and when."""

    def __init__(self, timeline: Timeline, *seconds: float) -> None:
        self.timeline, self.pace = timeline, timeline.join()
        self.stamps = np.array([int(second * SECOND) for second in seconds], np.int64)
        self.went: list[tuple[float, list[float]]] = []

    async def run(self) -> None:
        at = 0
        while at < len(self.stamps):
            stop = await self.pace.reach(self.stamps, at)
            if stop == at:
                return
            moment = self.timeline.clock.monotonic_ns() / SECOND
            self.went.append((moment, [stamp / SECOND for stamp in self.stamps[at:stop].tolist()]))
            at = stop
        self.pace.close()

    @property
    def rows(self) -> list[float]:
        return [stamp for _, stamps in self.went for stamp in stamps]


class Player:
    """Feeds on one timeline, run as tasks for a test."""

    def __init__(self, *feeds: list[float], **pacing: Any) -> None:
        self.clock = VirtualClock()
        self.timeline = Timeline(self.clock, Pacing(**pacing))
        self.feeds = [Feed(self.timeline, *seconds) for seconds in feeds]
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Player:
        self.start()
        await anyio.wait_all_tasks_blocked()
        return self

    def start(self, *numbers: int) -> None:
        chosen = [self.feeds[number] for number in numbers] or self.feeds
        self._tasks += [asyncio.ensure_future(feed.run()) for feed in chosen]

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for task in self._tasks:
            if not task.cancelled():
                task.result()


async def test_as_fast_as_possible_everything_goes_at_once() -> None:
    async with Player([0, 100, 1e6]) as player:
        assert player.feeds[0].went == [(0, [0, 100, 1e6])]
        assert player.timeline.state == "finished"


async def test_rows_go_when_they_are_due_together_where_they_have_one_stamp() -> None:
    async with Player([50, 51, 51, 54], speed=2.0) as player:
        assert player.feeds[0].went == [(0, [50])]
        await player.clock.advance(5)
        assert player.feeds[0].went == [(0, [50]), (0.5, [51, 51]), (2, [54])]


async def test_deadlines_are_absolute_and_what_is_late_goes_at_once_and_is_told() -> None:
    player = Player([0, 1, 2, 3], speed=1.0)
    timeline, pace = player.timeline, player.feeds[0].pace
    stamps = player.feeds[0].stamps
    assert await pace.reach(stamps, 0) == 1
    await player.clock.advance(2.5)  # its consumer kept it from coming back
    assert await pace.reach(stamps, 1) == 3, "two are late"
    assert timeline.max_lag_ns == 1.5 * SECOND
    waiting = asyncio.ensure_future(pace.reach(stamps, 3))
    await anyio.wait_all_tasks_blocked()
    await player.clock.advance(0.49)
    assert not waiting.done()
    await player.clock.advance(0.01)
    assert waiting.done() and await waiting == 4, "at three seconds, as if nothing had been late"


async def test_time_begins_with_the_first_row_of_all_feeds() -> None:
    async with Player([103], [100, 102], speed=1.0) as player:
        assert [feed.went for feed in player.feeds] == [[], [(0, [100])]]
        await player.clock.advance(10)
        assert player.feeds[0].went == [(3, [103])] and player.feeds[1].went[1] == (2, [102])


async def test_a_pause_freezes_time_to_the_nanosecond() -> None:
    async with Player([0, 10], speed=1.0) as player:
        await player.clock.advance(9.999999999)
        player.timeline.pause()
        await player.clock.advance(3600)
        assert player.feeds[0].rows == [0] and player.timeline.state == "paused"
        assert player.timeline.now_ns == 9_999_999_999
        player.timeline.resume()
        await anyio.wait_all_tasks_blocked()
        assert player.feeds[0].rows == [0]
        await player.clock.advance(1e-9)
        assert player.feeds[0].rows == [0, 10]


async def test_speed_changes_from_where_time_stands() -> None:
    async with Player([0, 10, 20, 30], speed=1.0) as player:
        await player.clock.advance(5)
        player.timeline.set_speed(10)
        await anyio.wait_all_tasks_blocked()
        await player.clock.advance(0.5)
        assert player.feeds[0].went[1] == (5.5, [10])
        player.timeline.set_speed(None)
        await anyio.wait_all_tasks_blocked()
        assert player.feeds[0].went[2] == (5.5, [20, 30])
    with pytest.raises(ValueError, match="expected a speed above 0"):
        player.timeline.set_speed(0)


async def test_a_night_lasts_no_longer_than_the_longest_gap() -> None:
    async with Player([0, 100_000, 100_001], [5, 100_000.5], speed=1.0, max_idle_gap_ns=30 * SECOND) as player:
        await player.clock.advance(100)
        moments = {stamp: moment for feed in player.feeds for moment, stamps in feed.went for stamp in stamps}
        assert moments == {0: 0, 5: 5, 100_000: 35, 100_000.5: 35.5, 100_001: 36}


async def test_steps_count_rows_over_all_feeds_in_the_order_of_their_stamps() -> None:
    player = Player([1, 4, 5, 9], [2, 3, 5, 6, 6, 6])
    player.timeline.pause()
    async with player:
        assert [feed.rows for feed in player.feeds] == [[], []]
        assert await player.timeline.step(rows=2) == 2
        await anyio.wait_all_tasks_blocked()
        assert [feed.rows for feed in player.feeds] == [[1], [2]]
        assert player.timeline.state == "paused"
        assert await player.timeline.step(rows=4) == 4
        await anyio.wait_all_tasks_blocked()
        assert [feed.rows for feed in player.feeds] == [[1, 4, 5], [2, 3, 5]], "of equal stamps the first feed's first"
        assert await player.timeline.step(rows=1) == 3, "rows of one stamp go together"
        await anyio.wait_all_tasks_blocked()
        assert await player.timeline.step(rows=99) == 1, "the feeds have ended"
        assert await player.timeline.step(rows=1) == 0
        assert player.timeline.state == "finished"


async def test_a_step_goes_up_to_a_moment_and_time_goes_on_from_there() -> None:
    player = Player([1, 4, 5, 9], [2, 3, 5, 60], speed=1.0)
    player.timeline.pause()
    async with player:
        assert await player.timeline.step(until_ns=5 * SECOND) == 4
        assert [feed.rows for feed in player.feeds] == [[1, 4], [2, 3]], "not those of the moment itself"
        assert await player.timeline.step(until_ns=5 * SECOND) == 0
        await player.clock.advance(1000)
        player.timeline.resume()
        await anyio.wait_all_tasks_blocked()
        assert [feed.rows for feed in player.feeds] == [[1, 4, 5], [2, 3, 5]]
        await player.clock.advance(4)
        assert player.feeds[0].rows == [1, 4, 5, 9]


async def test_a_step_waits_for_a_feed_that_has_not_come_yet() -> None:
    player = Player([5], [1, 2])
    player.timeline.pause()
    player.start(0)
    stepping = asyncio.ensure_future(player.timeline.step(rows=2))
    await anyio.wait_all_tasks_blocked()
    assert not stepping.done(), "the other may have earlier rows"
    with pytest.raises(PenstockError, match="no step while another is under way"):
        await player.timeline.step(rows=1)
    player.start(1)
    await anyio.wait_all_tasks_blocked()
    assert await stepping == 2 and player.feeds[1].rows == [1, 2]
    async with player:
        pass


async def test_a_step_that_was_ended_by_going_on_does_not_end_the_next_one() -> None:
    player = Player([5, 6, 7], [1, 2])
    player.timeline.pause()
    player.start(0)
    first = asyncio.ensure_future(player.timeline.step(rows=4))
    await anyio.wait_all_tasks_blocked()
    player.timeline.resume()
    player.start(1)
    assert await player.timeline.step(rows=3) == 3 and await first == 0
    async with player:
        pass


async def test_a_feed_that_is_stopped_gives_nothing_more() -> None:
    async with Player([0, 10], [3, 4], speed=1.0) as player:
        player.feeds[0].pace.stop()
        await player.clock.advance(20)
        assert [feed.rows for feed in player.feeds] == [[0], [3, 4]]


@pytest.mark.parametrize("words", [{}, {"rows": 1, "until_ns": 1}, {"rows": 0}])
async def test_a_step_is_of_rows_or_to_a_moment(words: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        await Player([0]).timeline.step(**words)
