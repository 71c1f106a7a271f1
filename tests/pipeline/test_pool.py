"""The pool: never more than its limit, first come first served, and an error that says who has it."""

from __future__ import annotations

from pipeline.pool import EVENTS_KEPT, Pool


class HandClock:
    """A clock that stands until it is moved."""

    now = 0

    def now_ns(self) -> int:
        return self.now

    def monotonic_ns(self) -> int:
        return self.now

    async def sleep_until(self, monotonic_ns: int) -> None:
        raise NotImplementedError


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


class Manager(Someone):
    """With a limit of its own, of which a part is guaranteed; a greedy one wants the same again and again."""

    greedy = False

    def __init__(self, name: str, pool: Pool, log: list[str], limit: int = 100) -> None:
        super().__init__(name, pool, log)
        self.limit = limit
        self.borrower = self  # type: ignore[assignment]
        pool.join(limit)

    @property
    def guarantee(self) -> int:
        return self.pool.guarantee(self.limit)

    def take_wanted(self) -> None:
        assert self.pool.admits(self, self.pool_need)
        self.take(self.pool_need)
        if not self.greedy:
            self.pool_need = 0
        self.pool.turn_taken(self)
        if not self.greedy:
            self.pool.leave(self)


def test_a1_a_quarter_of_each_budget_is_guaranteed_as_far_as_half_the_pool_goes() -> None:
    pool = Pool(1000)
    pool.join(400)
    assert pool.guarantee(400) == 100
    pool.join(4000)
    assert (pool.guarantee(400), pool.guarantee(4000)) == (100, 250)
    for _ in range(998):
        pool.join(4000)
    assert pool.guarantee(4000) == 0, "a thousandth of half a pool of a thousand bytes"
    assert (pool.managers, pool.budgets) == (1000, 400 + 999 * 4000)
    pool.part(4000 * 997, 997)
    assert pool.guarantee(4000) == 1000 // 2 // 3
    assert pool.guarantee(8000, managers=2) == 2 * 1000 // 2 // 3


def test_a2_whoever_has_its_fair_share_waits_a_second_longer_and_no_more() -> None:
    clock = HandClock()
    pool, log = Pool(100, clock), []
    rich, poor, other = (Manager(name, pool, log) for name in ("rich", "poor", "other"))
    rich.take(80)
    other.take(20)
    rich.want(10)
    clock.now += 500_000_000
    poor.want(10)
    other.give(10)
    assert log == ["poor"], "who came later and has less"
    rich.give(0)
    clock.now += 600_000_000
    poor.want(5)
    other.give(10)
    assert log == ["poor", "rich"], "who has waited for more than a second is overtaken no more"


def test_a2_who_has_asked_for_nothing_for_ten_seconds_is_not_counted() -> None:
    clock = HandClock()
    pool, log = Pool(120, clock), []
    managers = [Manager(f"m{n}", pool, log) for n in range(4)]
    managers[0].take(120)
    for manager in managers[1:]:
        manager.want(1)
        clock.now += 4_000_000_000
    assert pool.fair_share == 120 // 2, "the first asked twelve seconds ago"
    for manager in managers[1:]:
        pool.leave(manager)
    clock.now += 100_000_000_000
    assert pool.fair_share == 120


def test_a6_who_has_many_requests_has_one_a_turn() -> None:
    pool, log = Pool(100), []
    holder, many, one = (Manager(name, pool, log) for name in ("holder", "many", "one"))
    holder.take(100)

    many.greedy = True
    many.want(10)
    one.want(10)
    for _ in range(4):
        holder.give(10)
    assert log == ["many", "one", "many", "many"]


def test_a5_it_is_spill_then_throttle_then_fail_and_each_state_ends_five_points_lower() -> None:
    clock = HandClock()
    pool, log = Pool(1000, clock), []
    pool.relief = presser = Presser()
    presser.hopeful = True
    a, b = Manager("a", pool, log), Manager("b", pool, log)
    a.take(900)
    assert pool.pressure.said == ""
    clock.now = 1_000_000_000
    a.take(20)
    assert pool.pressure.said == "spilling"
    clock.now = 2_000_000_000
    b.want(100)
    assert pool.pressure.said == "throttled"
    assert "most is held by a 920" in pool.refuse("b", 100)
    pool.leave(b)
    assert pool.pressure.said == "spilling", "nobody waits, and it is below 95 %"
    a.give(70)
    assert pool.pressure.said == "", "at 85 %"
    a.take(60)
    assert pool.pressure.said == "spilling"
    a.give(20)
    assert pool.pressure.said == "spilling", "below 90 % again, but not by five points"
    told = [(event.seconds, event.kind, event.container, event.bytes) for event in pool.pressure.events]
    assert told == [
        (1, "spill", "a", 920), (2, "throttle", "b", 100), (2, "fail", "b", 100), (2, "throttle_over", "b", 920),
        (2, "spill_over", "a", 850), (2, "spill", "a", 910),
    ]  # fmt: skip


def test_a5_where_nothing_can_spill_waiting_is_the_first_that_happens() -> None:
    pool, log = Pool(1000), []
    a = Manager("a", pool, log)
    a.take(1000)
    a.want(1)
    assert [event.kind for event in pool.pressure.events] == ["throttle"]


def test_a5_a_pool_that_goes_up_and_down_for_ever_keeps_a_bounded_list_and_counts_the_rest() -> None:
    pool, log = Pool(1000), []
    pool.relief = presser = Presser()
    presser.hopeful = True
    a = Manager("a", pool, log)
    for _ in range(1000):
        a.take(950)
        a.give(950)
    figures = pool.pressure.figures()
    assert len(figures["events"]) == EVENTS_KEPT
    assert figures["event_counts"] == {"spill": 1000, "spill_over": 1000}


def test_a4_a_squeeze_brings_it_below_its_own_marks_until_it_is_relaxed() -> None:
    pool, log = Pool(1000), []
    pool.relief = presser = Presser()
    Manager("a", pool, log).take(400)
    pool.press()
    assert presser.pressed == 0
    pool.squeeze(150)
    assert (presser.pressed, pool.high, pool.low) == (1, 250, 250)
    pool.relax()
    assert (pool.high, pool.low) == (900, 750)
