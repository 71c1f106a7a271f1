"""The memory of the process: spill, pause, fail, in that order, each ended only well below where it began. A-4, A-5."""

from __future__ import annotations

import pytest

from pipeline.containers.feeding import Gate
from pipeline.engines.resident import ResidentWatch
from pipeline.errors import ContainerFailed
from pipeline.pool import Pool
from pipeline.testing import VirtualClock

LIMIT = 1000


class Process:
    """As large as it is told to be; looked at once each 200 ms."""

    def __init__(self, *, largest: tuple[str, int] | None = ("features", 300)) -> None:
        self.clock = VirtualClock()
        self.pool = Pool(500, self.clock)
        self.gate = Gate()
        self.gate.open()
        self.releases = 0
        self.size = 0
        self.watch = ResidentWatch(
            LIMIT, self.pool, self.gate, self.clock,
            resident=lambda: self.size, release=self._release, largest=lambda: largest,
        )  # fmt: skip

    def _release(self) -> None:
        self.releases += 1

    async def at(self, size: int, seconds: float = 0.2) -> None:
        """Stay at a size for so long."""
        self.size = size
        for _ in range(round(seconds / 0.2)):
            self.watch.look()
            await self.clock.advance(0.2)

    @property
    def kinds(self) -> list[str]:
        return [event.kind.removeprefix("resident_") for event in self.pool.pressure.events]


class Presser:
    """Notes what the pool is to be brought down to."""

    hopeful = True
    refused: BaseException | None = None

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.targets: list[int] = []

    def press(self) -> None:
        self.targets.append(self.pool.low)


class Holder:
    name, charged = "holder", 0


async def test_above_080_it_spills_and_asks_memory_back_once_a_second_and_ends_five_points_lower() -> None:
    process = Process()
    relief = process.pool.relief = Presser(process.pool)
    holder = Holder()
    holder.charged = 300
    process.pool.take(holder, 300)
    await process.at(800)
    assert process.kinds == [] and process.releases == 0
    await process.at(810, 3.0)
    assert process.kinds == ["spill"]
    assert process.releases == 3
    assert relief.targets[0] == 300 - (810 - 750), "as much as is above, though the pool is not short"
    await process.at(760, 2.0)
    assert process.kinds == ["spill"] and process.pool.low < process.pool.limit * 0.75
    await process.at(750, 2.0)
    assert process.kinds == ["spill", "spill_over"]
    assert (process.pool.high, process.pool.low) == (450, 375)
    assert process.watch.peak == 810


async def test_above_088_the_feeds_wait_and_go_on_five_points_lower() -> None:
    process = Process()
    await process.at(880)
    assert process.gate.is_open
    await process.at(890)
    assert not process.gate.is_open
    await process.at(840, 1.0)
    assert not process.gate.is_open
    await process.at(830)
    assert process.gate.is_open
    assert process.kinds == ["spill", "pause", "resume"]


async def test_a_pause_that_does_not_help_lets_a_little_through_so_that_nothing_hangs() -> None:
    process = Process()
    await process.at(890, 30.2)
    opened = 0
    for _ in range(50):
        await process.at(890)
        opened += process.gate.is_open
    assert opened == 5
    assert process.kinds == ["spill", "pause"], "no event for each of them"


async def test_who_paused_the_run_himself_is_not_overruled_and_draining_ends_every_pause() -> None:
    process = Process()
    process.gate.shut()
    await process.at(900)
    await process.at(500)
    assert not process.gate.is_open
    process.gate.open()
    await process.at(900)
    process.watch.drain()
    assert process.gate.is_open
    await process.at(900, 1.0)
    assert process.gate.is_open


async def test_above_095_for_five_seconds_the_largest_container_fails_and_the_error_says_why() -> None:
    process = Process()
    await process.at(960, 4.8)
    await process.at(890)
    await process.at(960, 5.0)
    with pytest.raises(ContainerFailed, match=r"features.*above 95% of the memory it may have for 5 s") as caught:
        await process.at(960, 0.4)
    assert caught.value.container == "features"
    assert "300 bytes; the pool (process_memory_mb) has charged 0 of 500" in str(caught.value)
    assert process.kinds == ["spill", "pause", "fail"]


async def test_below_095_for_a_moment_does_not_begin_the_five_seconds_anew_nor_is_it_enough_to_fail() -> None:
    process = Process()
    await process.at(960, 4.0)
    await process.at(940, 3.0)
    with pytest.raises(ContainerFailed):
        await process.at(960)


async def test_where_all_is_durable_nothing_fails() -> None:
    process = Process(largest=None)
    await process.at(990, 20.0)
    assert process.kinds == ["spill", "pause"]
