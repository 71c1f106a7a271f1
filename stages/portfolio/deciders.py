"""Who decides for the members of a group: one compiled decider for many, or each member's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from .cross import CrossGroup
from .strategy import GroupDecider, Strategy, StrategyFailed, TargetsOf, together


class Deciders:
    """The deciders of one instrument. Members stand in the order of their classes, so that each class is one run."""

    def __init__(self, strategies: Sequence[Strategy], grouped: bool) -> None:
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
