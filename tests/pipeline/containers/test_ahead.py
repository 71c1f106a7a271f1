"""Reading ahead: as far as the pool has room, charged meanwhile, and never a reason for anybody to wait. C-6."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pipeline.containers.ahead import AHEAD_PARTS, ReadAhead
from pipeline.edges.in_flight import EdgesAccount
from pipeline.pool import Pool
from pipeline.threads import Workers


class Source:
    """Gives numbers, each as large as it says, and counts how often it was asked."""

    def __init__(self, *sizes: int) -> None:
        self._sizes: Iterator[int] = iter(sizes)
        self.asked = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def pull(self) -> int | None:
        assert self.may_go_on.wait(20)
        self.asked += 1
        size = next(self._sizes, None)
        if size == 13:
            raise ValueError("a bad number")
        return size


def ahead(source: Source, account: EdgesAccount | None, workers: Workers) -> ReadAhead[int | None]:
    return ReadAhead(account, workers, source.pull, lambda item: item or 0)


async def test_what_is_read_ahead_is_charged_as_large_as_the_one_before_until_it_is_taken() -> None:
    pool, workers, source = Pool(100 * AHEAD_PARTS), Workers(1), Source(60, 90, 40)
    account = EdgesAccount(pool)
    reading = ahead(source, account, workers)
    charged = []
    while await reading.next() is not None:
        charged.append(pool.charged)
    assert charged == [60, 90, 40]
    await reading.close()
    assert pool.charged == account.charged == account.ahead == 0
    await workers.close()


async def test_without_room_one_is_in_hand_and_the_next_is_read_when_it_is_wanted() -> None:
    workers = Workers(1)
    for pool, taken in ((Pool(100 * AHEAD_PARTS), 100 * AHEAD_PARTS - 30), (Pool(60), 0)):
        account, source = EdgesAccount(pool), Source(60, 60, 60)
        other = EdgesAccount()
        other.charged = taken
        pool.take(other, taken)
        reading = ahead(source, account, workers)
        for number in (1, 2, 3):
            assert await reading.next() == 60
            assert source.asked == number
            assert pool.charged == taken
        assert await reading.next() is None
        await reading.close()
    await workers.close()


async def test_several_feeds_read_ahead_no_more_than_a_part_of_the_pool_together() -> None:
    pool, workers = Pool(100 * AHEAD_PARTS), Workers(4)
    account = EdgesAccount(pool)
    feeds = [ahead(Source(40, 40), account, workers) for _ in range(4)]
    for feed in feeds:
        await feed.next()
    assert account.ahead == pool.charged == 80
    for feed in feeds:
        await feed.close()
    assert pool.charged == 0
    await workers.close()


@pytest.mark.parametrize("account", [None, EdgesAccount()])
async def test_without_a_pool_one_is_always_read_ahead(account: EdgesAccount | None) -> None:
    workers, source = Workers(1), Source(10**9, 10**9, 10**9)
    reading = ahead(source, account, workers)
    await reading.next()
    await reading.close()
    assert source.asked == 2
    await workers.close()


async def test_an_error_comes_when_what_it_is_about_would_have_and_nothing_stays_charged() -> None:
    pool, workers = Pool(100 * AHEAD_PARTS), Workers(1)
    reading = ahead(Source(50, 13), EdgesAccount(pool), workers)
    assert await reading.next() == 50
    with pytest.raises(ValueError, match="a bad number"):
        await reading.next()
    assert pool.charged == 0
    await reading.close()
    await workers.close()
