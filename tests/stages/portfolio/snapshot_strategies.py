"""Strategies that remember, forget, and fail, and a stage that is a whole group: for tests of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.stage import Context, Logic, Stage
from stages.portfolio.portfolio import Portfolio
from stages.portfolio.strategy import Strategy


class Together(Stage, frozen=True):
    """Portfolios as the one container they are in a run."""

    members: Mapping[str, Portfolio]

    def build(self, context: Context) -> Logic:
        return next(iter(self.members.values())).build_group(self.members, context)


class Counting(Strategy, frozen=True):
    """Buys and sells every so many bars; what it gives of itself is what it goes on changing."""

    every: int = 3
    fails_after: int = 10_000

    def build(self) -> Any:
        return CountingDecider(self)


class CountingDecider:
    def __init__(self, recipe: Counting) -> None:
        self.recipe = recipe
        self.seen: list[int] = []

    def on_bar(self, bar: Any) -> float:
        self.seen.append(bar.ts_event)
        if len(self.seen) > self.recipe.fails_after:
            raise ZeroDivisionError("it has counted enough")
        return float(len(self.seen) // self.recipe.every % 3 - 1)

    def snapshot(self) -> Any:
        return self.seen

    def restore(self, state: Any) -> None:
        self.seen = state


class Sum(Strategy, frozen=True):
    """Long while the sum of all returns so far is above a level, in numpy."""

    level: float = 0.0

    def build(self) -> Any:
        return SumDecider(self.level)


class SumDecider:
    def __init__(self, level: float) -> None:
        self.level, self.total, self.last = level, np.zeros(1), None

    def on_bars(self, bars: Any) -> Any:
        targets = np.empty(len(bars))
        for place, close in enumerate(bars.close.tolist()):
            if self.last is not None:
                self.total += close / self.last - 1
            self.last = close
            targets[place] = self.total[0] > self.level
        return targets

    def snapshot(self) -> Any:
        return {"total": self.total, "last": self.last}

    def restore(self, state: Any) -> None:
        self.total, self.last = state["total"].copy(), state["last"]


class Above(Strategy, frozen=True):
    """Long above a price; the recipe decides itself and remembers nothing."""

    price: float = 6400.0

    def on_bar(self, bar: Any) -> float:
        return 1.0 if bar.close > self.price else 0.0


class Forgetting(Strategy, frozen=True):
    """An object of its own that says that it remembers nothing."""

    def build(self) -> Any:
        return ForgettingDecider()


class ForgettingDecider:
    stateless = True

    def on_bars(self, bars: Any) -> Any:
        return np.where(bars.close > bars.open, 1.0, -1.0)


class Remembering(Strategy, frozen=True):
    """Remembers, and does not say what."""

    def build(self) -> Any:
        return RememberingDecider()


class RememberingDecider:
    seen = 0

    def on_bar(self, bar: Any) -> float:
        self.seen += 1
        return float(self.seen % 2)


class Odd(Counting, frozen=True):
    """Gives what nobody can write."""

    def build(self) -> Any:
        return OddDecider(self)


class OddDecider(CountingDecider):
    def snapshot(self) -> Any:
        return {"itself": self}


class Broken(Counting, frozen=True):
    """Cannot give what it remembers."""

    def build(self) -> Any:
        return BrokenDecider(self)


class BrokenDecider(CountingDecider):
    def snapshot(self) -> Any:
        raise RuntimeError("not now")


class Infinite(Strategy, frozen=True):
    """A kernel that fails where a close passes a price."""

    columns = ("close",)
    price: float = 6400.0

    @staticmethod
    def kernel(inputs: Any, parameters: Any, targets: Any) -> None:
        close = inputs[0]
        for bar in range(len(targets)):
            targets[bar] = 1.0 / (parameters[0] > close[bar])


class Voting(Strategy, frozen=True):
    """Decided for together, by an object that remembers a sum of closes of all bars."""

    share: float = 1.0

    def build(self) -> Any:
        raise AssertionError("the group is asked")

    @classmethod
    def build_group(cls, members: Any) -> Any:
        return VotingDecider([member.share for member in members])


class VotingDecider:
    def __init__(self, shares: list[float]) -> None:
        self.shares, self.total, self.bars = shares, 0.0, 0

    def warm(self) -> None:
        return None

    def look(self, bars: Any, first_bar: int, length: int) -> None:
        self.means, self.closes = [], bars.close[first_bar : first_bar + length]
        for close in self.closes.tolist():
            self.total, self.bars = self.total + close, self.bars + 1
            self.means.append(self.total / self.bars)

    def on_bars(self, first: int, targets: Any) -> None:
        for place, line in enumerate(targets):
            line[:] = self.closes > np.array(self.means) * self.shares[first + place]

    def snapshot(self) -> Any:
        return {"total": self.total, "bars": self.bars}

    def restore(self, state: Any) -> None:
        self.total, self.bars = state["total"], state["bars"]
