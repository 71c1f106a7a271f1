"""The pool: never more than its limit, first come first served, and an error that says who has it."""

from __future__ import annotations

from pipeline.pool import Pool


class Someone:
    """Holds and waits; takes what it wants in the step in which it is served, or `later`."""

    borrower = None

    def __init__(self, name: str, pool: Pool, log: list[str], *, later: bool = False) -> None:
        self.name, self.pool, self.log, self.later = name, pool, log, later
        self.charged = 0
        self.pool_need = 0

    def take(self, num_bytes: int) -> None:
        self.charged += num_bytes
        self.pool.take(self, num_bytes)

    def give(self, num_bytes: int) -> None:
        self.charged -= num_bytes
        self.pool.give(self, num_bytes)

    def want(self, num_bytes: int) -> None:
        self.pool_need = num_bytes
        self.pool.line_up(self)

    def serve(self) -> None:
        self.log.append(self.name)
        if not self.later:
            self.take_wanted()

    def take_wanted(self) -> None:
        assert self.pool.admits(self, self.pool_need)
        self.take(self.pool_need)
        self.pool_need = 0


class Presser:
    """Counts how often it is asked to make room."""

    hopeful = False
    refused: BaseException | None = None

    def __init__(self) -> None:
        self.pressed = 0

    def press(self) -> None:
        self.pressed += 1


def test_what_is_taken_and_given_back_is_counted_to_the_byte() -> None:
    pool, log = Pool(100), []
    a, b = Someone("a", pool, log), Someone("b", pool, log)
    assert pool.admits(a, 100) and not pool.admits(a, 101)
    a.take(60)
    b.take(40)
    assert (pool.charged, pool.free, pool.peak) == (100, 0, 100)
    assert not pool.admits(b, 1)
    a.give(60)
    assert (pool.charged, pool.peak) == (40, 100)
    assert pool.admits(b, 60) and not pool.admits(b, 61)


def test_who_waits_is_served_in_the_step_that_makes_room_and_nobody_overtakes() -> None:
    pool, log = Pool(100), []
    holder, big, small, new = (Someone(name, pool, log) for name in ("holder", "big", "small", "new"))
    holder.take(90)
    big.want(50)
    small.want(5)
    assert not pool.admits(new, 5), "there is room, but others were here before"
    holder.give(30)
    assert log == [], "forty are free, the first in line wants fifty"
    holder.give(10)
    assert log == ["big"]
    assert (big.charged, small.charged, pool.free) == (50, 0, 0)
    holder.give(10)
    assert log == ["big", "small"]
    assert pool.admits(new, 5) and not pool.admits(new, 6)
    assert pool.waits == 2


def test_who_takes_its_bytes_later_stays_first_until_then() -> None:
    pool, log = Pool(100), []
    holder, edge, other = Someone("holder", pool, log), Someone("edge", pool, log, later=True), Someone("o", pool, log)
    holder.take(100)
    edge.want(40)
    other.want(10)
    holder.give(100)
    assert log == ["edge"]
    assert not pool.admits(other, 10)
    edge.take_wanted()
    pool.leave(edge)
    assert log == ["edge", "o"]
    assert pool.charged == 50


def test_who_leaves_the_line_lets_the_next_one_in() -> None:
    pool, log = Pool(100), []
    holder, big, small = (Someone(name, pool, log) for name in ("holder", "big", "small"))
    holder.take(90)
    big.want(50)
    small.want(10)
    pool.leave(big)
    assert log == ["small"]
    pool.leave(big)
    assert pool.charged == 100


def test_room_is_asked_for_above_ninety_percent_and_whenever_somebody_waits() -> None:
    pool, log = Pool(100), []
    pool.relief = relief = Presser()
    holder, waiter = Someone("holder", pool, log), Someone("waiter", pool, log)
    holder.take(90)
    pool.press()
    assert relief.pressed == 0
    holder.take(1)
    pool.press()
    assert relief.pressed == 1
    holder.give(41)
    waiter.want(60)
    assert relief.pressed == 2


def test_a_shortage_of_a_pool_that_nobody_holds_says_so() -> None:
    assert Pool(100).refuse("a", 101) == (
        "the pool of the process (process_memory_mb) has 100 of 100 bytes free, nobody holds any of it: what is asked "
        "for is more; raise process_memory_mb, or let its holders spill with mode: hybrid"
    )


def test_a_shortage_names_the_pool_its_largest_holders_and_what_to_try() -> None:
    pool, log = Pool(100), []
    for name, held in (("a", 10), ("b", 40), ("c", 25), ("d", 20)):
        Someone(name, pool, log).take(held)
    gone = Someone("gone", pool, log)
    gone.take(5)
    gone.give(5)
    assert pool.refuse("e", 6) == (
        "the pool of the process (process_memory_mb) has 5 of 100 bytes free, most is held by b 40, c 25, d 20 bytes; "
        "raise process_memory_mb, or let its holders spill with mode: hybrid"
    )
