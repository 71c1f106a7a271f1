"""Who decides for the members of a group: one compiled decider for many, or each member's own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import groupby
from typing import Any

from pipeline import UnsupportedType, packed, unpacked

from .cross import CrossGroup
from .state import forgets, remembers
from .strategy import GroupDecider, Strategy, StrategyFailed, TargetsOf, together


class Deciders:
    """The deciders of one instrument. Members stand in the order of their classes, so that each class is one run."""

    def __init__(self, strategies: Sequence[Strategy], grouped: bool) -> None:
        self._strategies = strategies
        self.together: list[tuple[int, int, GroupDecider]] = []
        """First member, the one after the last, and who decides for them."""
        self.alone: dict[int, TargetsOf] = {}
        """Members that are asked one by one, by place."""
        self.broken: dict[int, StrategyFailed] = {}
        """Members whose strategy cannot even be built."""
        for _, run in groupby(range(len(strategies)), key=lambda place: type(strategies[place])):
            places = list(run)
            own = [strategies[place] for place in places]
            decider = together(own) if grouped else None
            if decider is not None:
                self.together.append((places[0], places[-1] + 1, decider))
                continue
            for place, strategy in zip(places, own, strict=True):
                try:
                    self.alone[place] = TargetsOf(strategy)
                except StrategyFailed as error:
                    self.broken[place] = error

    def warm(self) -> None:
        for _, _, decider in self.together:
            decider.warm()
        for one in self.alone.values():
            one.warm()

    def crossings(self) -> Iterator[CrossGroup]:
        """Those that may pass over bars with one price only, and count them."""
        return (decider for _, _, decider in self.together if isinstance(decider, CrossGroup))

    @property
    def can_snapshot(self) -> bool:
        """Whether each remembers nothing, or gives what it does."""
        return all(forgets(decider) or remembers(decider) for _, decider in self._by_place())

    def snapshot(self, failed: Collection[int]) -> dict[str, Any]:
        """What those remember that remember something, by the place of the first member they decide for.

        Members that have `failed` are left out. Raises `StrategyFailed`.
        """
        places, states = [], []
        for place, decider in self._by_place():
            if not forgets(decider) and (decider is not self._own(place) or place not in failed):
                places.append(place)
                states.append(self._told(place, "snapshot", decider.snapshot))
        try:
            return {"places": places, "states": packed(states)}
        except UnsupportedType:
            for place, state in zip(places, states, strict=True):
                self._told(place, "snapshot", packed, state)
            raise

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a snapshot of the same strategies. Raises `StrategyFailed`."""
        deciders = dict(self._by_place())
        for place, remembered in zip(state["places"], unpacked(state["states"]), strict=True):
            self._told(place, "restore", deciders[place].restore, remembered)

    def _by_place(self) -> Iterator[tuple[int, Any]]:
        """All deciders, and the first member each decides for."""
        yield from ((first, decider) for first, _, decider in self.together)
        yield from ((place, one.decider) for place, one in self.alone.items())

    def _own(self, place: int) -> Any:
        """The decider of a member that is asked by itself."""
        return self.alone[place].decider if place in self.alone else None

    def _told(self, place: int, what: str, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except Exception as error:
            said = f"strategy {self._strategies[place]!r} failed in {what}(): {type(error).__name__}: {error}"
            raise StrategyFailed(said) from error
