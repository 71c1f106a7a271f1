"""Victims: always the one furthest above its guarantee, held against looking at everybody."""

from __future__ import annotations

import random

from pipeline.data.victims import Victims


class Manager:
    """As victims see one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tick = self.put_tick = 0.0
        self.charged = self.guarantee = 0

    @property
    def borrowed(self) -> int:
        return self.charged - self.guarantee

    def store(self, num_bytes: int, victims: Victims[Manager]) -> None:
        self.charged += num_bytes
        self.tick = self.put_tick = self.tick + 1.0
        victims.note(self)


def test_a3_of_equals_the_one_used_longest_ago_comes_first() -> None:
    victims: Victims[Manager] = Victims()
    managers = [Manager(f"m{n}") for n in range(5)]
    for manager in managers:
        manager.store(10, victims)
    managers[0].tick += 1.0  # read
    order = []
    for _ in managers:
        victim = victims.furthest(5)
        assert victim is not None
        order.append(victim.name)
        victims.forget(victim)
    assert order == ["m1", "m2", "m3", "m4", "m0"]
    assert victims.furthest(5) is None and not victims


def test_a3_it_is_the_furthest_above_its_guarantee_whatever_happened_in_between() -> None:
    rng = random.Random(11)
    for _ in range(30):
        victims: Victims[Manager] = Victims()
        managers = [Manager(f"m{n}") for n in range(rng.randrange(1, 40))]
        inside: set[Manager] = set()
        for _ in range(300):
            manager = rng.choice(managers)
            action = rng.random()
            if action < 0.5:
                manager.store(rng.randrange(1, 1000), victims)
                inside.add(manager)
            elif action < 0.7:
                manager.charged = rng.randrange(manager.charged + 1)
            elif action < 0.8:
                manager.tick += 1.0
            elif action < 0.85:
                victims.forget(manager)
                inside.discard(manager)
            victim = victims.furthest(len(managers))
            most = max((each.borrowed for each in inside), default=None)
            assert (None if victim is None else victim.borrowed) == most
            if victim is not None:
                others = sorted(each.borrowed for each in inside if each is not victim)
                assert victims.ahead() <= victim.borrowed - max(others[-1] if others else 0, 0) or victims.ahead() == 0


def test_a3_guarantees_that_change_for_all_are_seen_after_an_eighth_as_many_decisions() -> None:
    victims: Victims[Manager] = Victims()
    managers = [Manager(f"m{n}") for n in range(64)]
    for number, manager in enumerate(managers):
        manager.guarantee = 1000 if number else 0
        manager.store(1000 + number if number else 500, victims)
    assert victims.furthest(64) is managers[0]
    for manager in managers:
        manager.guarantee = 0
    for _ in range(8):
        victim = victims.furthest(65)
    assert victim is managers[63]


def test_a7_what_is_out_of_date_in_the_queue_stays_within_bounds() -> None:
    victims: Victims[Manager] = Victims()
    managers = [Manager(f"m{n}") for n in range(10)]
    for n in range(5000):
        managers[n % 10].store(1, victims)
        victims.furthest(10)
    assert len(victims._heap) <= 2 * 10 + 64
