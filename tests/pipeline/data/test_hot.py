"""The memory tier: what leaves is exactly the least recently used, whatever happened in between."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from data_support import HandClock
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pipeline.data import hot
from pipeline.data.account import Account
from pipeline.data.block import ABSENT, Block
from pipeline.data.hot import MemoryTier
from pipeline.storage import codecs

SIZE = 10
KEYS = st.integers(0, 7)
CALLS = st.sampled_from(
    [*["put"] * 4, *["use"] * 8, *["restore"] * 3, *["shed"] * 3, "forget", "clean", "left", "stayed"]
)
STEPS = st.lists(st.tuples(CALLS, KEYS), min_size=50, max_size=150)
"""A call and the key it is about; how many values are to stay for `shed` and `clean`."""


class Tier:
    """A memory tier, driven as the hybrid manager drives it, beside the plain list of what was used in which order."""

    def __init__(self) -> None:
        self.account = Account(1000, HandClock())
        self.ticking = SimpleNamespace(tick=0.0)
        self.memory = MemoryTier(self.account, self.ticking)
        self.known: dict[str, Block] = {}
        """Every key, in memory or on disk."""
        self.order: list[Block] = []
        """Resident blocks, least recently used first: the model."""
        self.group: list[Block] = []
        """Blocks being written."""
        self.used_meanwhile: set[Block] = set()

    def put(self, key: str) -> None:
        self.forget(key)
        block = self.known[key] = Block(key, key.encode(), object(), SIZE, codecs.RAW)
        self.account.take(SIZE)
        self.memory.put(block)
        self.order.append(block)

    def use(self, key: str) -> None:
        """As `HybridManager.retrieve_nowait` does it."""
        block = self.memory.blocks.get(key)
        assert (block is not None) == (key in self.known and self.known[key] in self.order)
        if block is None:
            return
        assert block.value is not ABSENT
        self.ticking.tick = block.used = self.ticking.tick + 1.0
        self.order.remove(block)
        self.order.append(block)
        self.used_meanwhile.add(block)

    def forget(self, key: str) -> None:
        block = self.known.pop(key, None)
        if block is None:
            return
        freed = block.reusable_size
        block.forgotten = "deleted"
        self.memory.forget(block)
        if not block.leaving:
            block.value = ABSENT
        self.account.give(freed)
        if block in self.order:
            self.order.remove(block)

    def restore(self, key: str) -> None:
        block = self.known.get(key)
        if block is None or block.value is not ABSENT:
            return
        self.account.take(SIZE)
        block.value = object()
        self.memory.put(block)
        self.order.append(block)

    def shed(self, count: int) -> None:
        """Make room for `count` values: clean ones go, dirty ones are written, the oldest first."""
        leaving = set(self.group)
        staying = [block for block in self.order if block not in leaving]
        wanted = staying[: max(0, len(staying) - count)]
        if self.group:  # without writing, the first dirty one ends it
            dirty = next((n for n, block in enumerate(wanted) if block.extent is None), len(wanted))
            wanted = wanted[:dirty]
        cut = False
        group = self.memory.shed(count * SIZE, write=not self.group)
        while self.memory.behind:
            cut = cut or bool(group)  # what it has is on its way to disk meanwhile
            group += self.memory.shed(count * SIZE, write=not self.group and not group)
        taken = [block for block in wanted if block.value is ABSENT or block in group]
        assert taken == wanted[: len(taken)]
        assert taken == wanted or (cut and wanted[len(taken)].extent is None)
        assert group == [block for block in taken if block.extent is None]
        for block in taken:
            if block.extent is not None:
                self.order.remove(block)
        if group:
            self.group, self.used_meanwhile = group, set()

    def clean(self, count: int) -> None:
        found = [block for block in self.order if block.extent is not None]
        staying = len([block for block in self.order if block not in self.group])
        wanted = found[: max(0, staying - count)]
        assert self.memory.shed(count * SIZE, write=False, skip_dirty=True) == []
        for block in wanted:
            self.order.remove(block)

    def left(self) -> None:
        group, self.group = self.group, []
        for block in group:
            block.extent = object()  # type: ignore[assignment]
            self.memory.left(block)
            if block in self.order and block not in self.used_meanwhile:
                self.order.remove(block)

    def stayed(self) -> None:
        group, self.group = self.group, []
        for block in group:
            self.memory.stayed(block)

    def check(self) -> None:
        assert set(self.memory.blocks.values()) == set(self.order)
        assert sorted(self.order, key=lambda block: block.used) == self.order
        assert all((block.value is not ABSENT) == (block in self.order) for block in self.known.values())
        forgotten = [block for block in self.group if block.forgotten]
        assert self.account.charged == SIZE * (len(self.order) + len(forgotten))
        assert self.memory.leaving_bytes == SIZE * len(self.group)
        assert len(self.memory._queue) <= 2 * len(self.order) + hot.SPARE_ENTRIES


@pytest.mark.parametrize("corrections", [1, hot.CORRECTIONS])
def test_what_leaves_is_exactly_the_least_recently_used(monkeypatch: pytest.MonkeyPatch, corrections: int) -> None:
    monkeypatch.setattr(hot, "CORRECTIONS", corrections)
    monkeypatch.setattr(hot, "SPARE_ENTRIES", 2)

    @settings(max_examples=40, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    @given(STEPS)
    def examine(steps: list[tuple[str, int]]) -> None:
        tier = Tier()
        for n in range(8):
            tier.put(f"k{n}")
        for call, argument in steps:
            match call:
                case "put" | "use" | "forget" | "restore":
                    getattr(tier, call)(f"k{argument}")
                case "shed" | "clean":
                    getattr(tier, call)(argument)
                case "left" | "stayed":
                    getattr(tier, call)()
            tier.check()

    examine()


def test_the_queue_stays_in_proportion_to_what_is_in_memory() -> None:
    tier = Tier()
    for turn in range(5000):
        tier.put(f"k{turn % 50}")
        assert len(tier.memory._queue) <= 2 * 50 + hot.SPARE_ENTRIES
    for turn in range(50):
        tier.forget(f"k{turn}")
    assert len(tier.memory._queue) <= hot.SPARE_ENTRIES


def test_finding_the_oldest_of_many_used_values_is_spread_over_several_steps() -> None:
    tier = Tier()
    tier.account.limit = 100_000
    for n in range(5000):
        tier.put(f"k{n}")
    for n in reversed(range(5000)):
        tier.use(f"k{n}")
    target = tier.account.charged - SIZE
    steps = 1
    while not (group := tier.memory.shed(target, write=True)):
        assert tier.memory.behind
        steps += 1
    assert [block.slot for block in group] == ["k4999"]
    assert steps == 5000 // hot.CORRECTIONS  # the last put, and first used, is where it was
