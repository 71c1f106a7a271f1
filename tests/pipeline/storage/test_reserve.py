"""The reserve: eviction's copies beside each other up to its limit, the others in line, and never a standstill."""

from __future__ import annotations

import asyncio
import random

import pytest

from pipeline.errors import DiskFull
from pipeline.storage.reserve import RESERVE_BYTES, Reserve


class Writes:
    """Begins writes that end when they are told to."""

    def __init__(self) -> None:
        self.begun: dict[str, asyncio.Future[str]] = {}

    def begin(self, name: str) -> asyncio.Future[str]:
        self.begun[name] = asyncio.get_running_loop().create_future()
        return self.begun[name]


async def test_c6_copies_beyond_the_reserve_wait_first_come_first_served() -> None:
    reserve, writes = Reserve(100), Writes()
    ends = {name: reserve.during(size, lambda name=name: writes.begin(name)) for name, size in
            (("a", 60), ("b", 40), ("c", 50), ("d", 10))}  # fmt: skip
    assert list(writes.begun) == ["a", "b"]
    assert (reserve.held, reserve.waits) == (100, 2)
    writes.begun["b"].set_result("b")
    assert await ends["b"] == "b"
    assert list(writes.begun) == ["a", "b"], "forty are free; fifty are first in line, and ten do not overtake"
    writes.begun["a"].set_result("a")
    await ends["a"]
    assert list(writes.begun) == ["a", "b", "c", "d"]
    for name in "cd":
        writes.begun[name].set_result(name)
        await ends[name]
    assert (reserve.held, reserve.peak) == (0, 100)


async def test_c6_a_write_with_more_copies_than_the_whole_reserve_goes_alone() -> None:
    reserve, writes = Reserve(100), Writes()
    small = reserve.during(1, lambda: writes.begin("small"))
    large = reserve.during(500, lambda: writes.begin("large"))
    assert "large" not in writes.begun
    writes.begun["small"].set_result("")
    await small
    none = reserve.during(0, lambda: writes.begin("none"))
    other = reserve.during(1, lambda: writes.begin("other"))
    assert list(writes.begun) == ["small", "large", "none"], "who makes no copies waits for nobody in here"
    writes.begun["large"].set_result("")
    await large
    for name, end in (("none", none), ("other", other)):
        writes.begun[name].set_result("")
        await end
    assert reserve.held == 0


async def test_c6_writes_that_fail_or_cannot_begin_give_back_what_they_had() -> None:
    reserve, writes = Reserve(10), Writes()

    def refused() -> asyncio.Future[str]:
        raise DiskFull("no room")

    failing = reserve.during(10, lambda: writes.begin("failing"))
    cannot = reserve.during(10, refused)
    last = reserve.during(10, lambda: writes.begin("last"))
    writes.begun["failing"].set_exception(DiskFull("in the middle"))
    for end, why in ((failing, "in the middle"), (cannot, "no room")):
        with pytest.raises(DiskFull, match=why):
            await end
    writes.begun["last"].set_result("done")
    assert await last == "done"
    assert reserve.held == 0


async def test_c6_whatever_comes_in_whatever_order_it_never_holds_more_and_never_stands_still() -> None:
    rng = random.Random(7)
    reserve, under_way = Reserve(RESERVE_BYTES), []
    done = 0

    def begin() -> asyncio.Future[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        under_way.append(future)
        return future

    def count(_: object) -> None:
        nonlocal done
        done += 1

    for _ in range(2000):
        reserve.during(rng.randrange(RESERVE_BYTES // 3), begin).add_done_callback(count)
        assert reserve.held <= reserve.limit
        while under_way and rng.random() < 0.45:
            under_way.pop(rng.randrange(len(under_way))).set_result(0)
        if rng.random() < 0.3:
            await asyncio.sleep(0)
    while reserve.held:
        assert reserve.held <= reserve.limit
        if under_way:
            under_way.pop().set_result(0)
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (done, reserve.held) == (2000, 0)
