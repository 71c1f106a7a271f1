"""What a strategy is: it names the features it needs and says, bar by bar, which position it wants."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Protocol,
    Self,
    TypeAlias,
    Union,
    cast,
    get_args,
    get_origin,
    runtime_checkable,
)

import msgspec
import numpy as np

from pipeline import Recipe
from stages.features.feature import Feature

from .bars import Bar, Bars, Floats, timestamp
from .failures import StrategyFailed as StrategyFailed
from .kernel import KernelGroup, OneKernel


@runtime_checkable
class PerBar(Protocol):
    """Decides bar by bar, in Python."""

    def on_bar(self, bar: Bar) -> float | None:
        """The position wanted after this bar's close, in units of `quantity`: 1 long, 0 flat, -1 short.

        Fractions are allowed; None keeps the present target. `bar` has floats `open`, `high`, `low`, `close`, `volume`
        and the features by name (None until formed), and `ts_event` in nanoseconds.
        """
        ...


@runtime_checkable
class Vectorised(Protocol):
    """Decides for a whole batch of bars at once, in numpy."""

    def on_bars(self, bars: Bars) -> Floats:
        """One target per bar, float64, in units of `quantity`; NaN keeps the one before.

        A batch is any number of consecutive bars, also one: what must be remembered from bar to bar belongs into
        features or into `self`, or the result depends on how the stream was cut.
        """
        ...


Decider: TypeAlias = PerBar | Vectorised


class GroupDecider(Protocol):
    """Decides for many strategies of one class at once, in a compiled kernel."""

    def warm(self) -> None:
        """Compile; called in a thread before data flows."""
        ...

    def look(self, bars: Bars, first_bar: int, length: int) -> None:
        """Gather what the next calls of `on_bars` need of the bars from `first_bar`; blocks come in order of time."""
        ...

    def on_bars(self, first: int, targets: Floats) -> Mapping[int, StrategyFailed] | None:
        """Fill `targets` (float64, members x bars, NaN keeps) for members from `first` and the bars looked at.

        Its shape says how many. Writes every value; must not depend on how blocks were chosen. Several threads call
        it at once, each for members of its own, each member once per block. Gives the members whose own rule failed,
        by their number in the group, with NaN among the targets; None where none did.

        What is remembered from block to block is given by `snapshot` and taken by `restore`, as `Strategy.build` says;
        a decider that remembers nothing says `stateless = True`.
        """
        ...


class Strategy(Recipe, frozen=True):
    """Base of strategies: a frozen recipe whose fields are its parameters.

        class Breakout(Strategy, frozen=True):
            n: int = 20
            margin: float = 0.01

            def features(self):
                return [Feature.sma(self.n)]

            def on_bar(self, bar):
                mean = bar[Feature.sma(self.n)]
                if mean is None:                          # not formed yet: keep the position
                    return None
                return 1 if bar.close > mean * (1 + self.margin) else 0

    is complete, and `strategy: {type: ./breakout.py:Breakout, n: 50}` runs it. A strategy that remembers things from
    bar to bar defines `build()`, which makes a fresh object with `on_bar` or `on_bars`; the recipe itself stays frozen.
    Such an object may also have `snapshot()` and `restore(state)`: see `build`.

    Instead of `on_bar`, a strategy may have a `kernel`: then thousands of them are asked in one compiled call.
    """

    columns: ClassVar[tuple[str, ...]] = ()
    """Columns of the bars that `kernel` is given before the features, such as `("close",)`."""

    quantity: float = 1.0
    """Units of the instrument that a target of 1 stands for; above 0."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.quantity) and self.quantity > 0):
            raise ValueError(f"expected a quantity above 0, found {self.quantity}")

    def features(self) -> Sequence[Feature]:
        """Features this strategy wants in every bar, as columns called `feature.name`."""
        return ()

    def warmup_bars(self) -> int:
        """Bars before a phase's window that what `build()` makes wants to have seen; features count their own."""
        return 0

    @staticmethod
    def kernel(inputs: Floats, parameters: Floats, targets: Floats) -> None:
        """The rule for one strategy and a block of bars, to be compiled by numba; define it as a static method.

            @staticmethod
            def kernel(inputs, parameters, targets):
                close, mean = inputs                      # `columns`, then `features()`, in their order
                (margin,) = parameters                    # what `parameters()` gives
                for bar in range(len(targets)):
                    if mean[bar] == mean[bar]:            # NaN until formed
                        targets[bar] = 1.0 if close[bar] > mean[bar] * (1 + margin) else 0.0

        `inputs` float64 (columns, bars) and `parameters` float64 (numbers,) are read only; `targets` float64 (bars,) is
        NaN beforehand, which keeps the target before. A block is any number of bars: nothing may be remembered from one
        bar to the next, or the result depends on how the stream was cut.
        """
        raise NotImplementedError

    def parameters(self) -> Sequence[float]:
        """Numbers that `kernel` is given: by default fields of type int, float and bool in their order, but `quantity`.

        A field that may also be None is NaN then.
        """
        fields = msgspec.structs.fields(self)
        return [
            math.nan if (value := getattr(self, field.name)) is None else float(value)
            for field in fields
            if field.name not in Strategy.__struct_fields__ and _is_numeric(field.type)
        ]

    def build(self) -> Decider:
        """The deciding object, one per portfolio; it may keep state. Default: this recipe, if it has `on_bar(s)`.

        For a run that writes checkpoints the object says how it is brought back after a crash:

            class Counting:
                def __init__(self): self.seen = 0
                def on_bar(self, bar): ...
                def snapshot(self): return {"seen": self.seen}
                def restore(self, state): self.seen = state["seen"]

        `snapshot()` gives all that later targets depend on, as dicts, lists, plain values and numpy arrays; `restore`
        gets that in a fresh object, before any bar. One that remembers nothing says `stateless = True`. Where a
        strategy of a portfolio's container does neither, nothing is wrong: the container's bars are kept on disk
        instead and given again, which takes room, and time when a run is resumed.
        """
        if _has_kernel(type(self)):
            return OneKernel(self)
        if isinstance(self, PerBar | Vectorised):
            return self
        raise NotImplementedError(
            f"strategy {type(self).__name__} defines neither build() nor on_bar(bar) nor on_bars(bars) nor a kernel"
        )

    @classmethod
    def build_group(cls, members: Sequence[Self]) -> GroupDecider | None:
        """One compiled decider for many strategies of this class; None asks each member by itself.

        Default: by the `kernel`, if the class has one. Raises `ValueError` where members do not fit together.
        """
        return KernelGroup(members) if _has_kernel(cls) else None

    def vary(self, parameters: Mapping[str, Any]) -> Self:
        """This strategy with other parameters. Raises `ValueError` for unknown names and values that do not fit."""
        known = self.__struct_fields__
        for name in parameters:
            if name not in known:
                raise ValueError(
                    f"strategy {type(self).__name__} has no parameter '{name}'; its fields are {', '.join(known)}"
                )
        return msgspec.convert(msgspec.structs.asdict(self) | dict(parameters), type(self), from_attributes=True)


class TargetsOf:
    """Asks one strategy for its targets, batch by batch, and turns whatever goes wrong into `StrategyFailed`."""

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        try:
            self.decider = strategy if _decides_itself(type(strategy)) else strategy.build()
        except (Exception, SystemExit) as error:
            raise self._failed(None, f"in build(): {_told(error)}") from error
        self.wants_rows = not isinstance(self.decider, Vectorised)
        """Whether `rows` are looked at: True for deciders that go bar by bar."""
        if self.wants_rows and not isinstance(self.decider, PerBar):
            raise self._failed(None, f"build() gave {self.decider!r}, which has neither on_bar nor on_bars")

    def warm(self) -> None:
        """Compile what is to be compiled."""
        if isinstance(self.decider, OneKernel):
            self.decider.warm()

    def targets(self, bars: Bars, rows: Sequence[Bar] | None = None) -> Floats:
        """One target per bar, float64, NaN = keep; `rows` are the bars already made into objects."""
        if self.wants_rows:
            return self._ask_bars(cast(PerBar, self.decider), bars, rows)
        return self._ask_batch(cast(Vectorised, self.decider), bars)

    def _ask_batch(self, decider: Vectorised, bars: Bars) -> Floats:
        start = int(bars.times("bar_end")[0])
        try:
            found = np.asarray(decider.on_bars(bars.guarded), dtype=np.float64)
        except (Exception, SystemExit) as error:
            raise self._failed(start, _told(error), "in the batch from the bar ending") from error
        if found.shape != (len(bars),):
            said = f"on_bars gave an array of shape {found.shape}, expected ({len(bars)},)"
            raise self._failed(start, said, "in the batch from the bar ending")
        infinite = np.flatnonzero(np.isinf(found))
        if len(infinite):
            raise self._failed(int(bars.times("bar_end")[infinite[0]]), "the target is infinite")
        return np.ascontiguousarray(found)

    def _ask_bars(self, decider: PerBar, bars: Bars, rows: Sequence[Bar] | None) -> Floats:
        on_bar = decider.on_bar
        targets: list[float] = []
        try:
            for bar in bars.rows() if rows is None else rows:
                target = on_bar(bar)
                targets.append(_KEEP if target is None else _number(target))
        except (Exception, SystemExit) as error:
            failed = self._failed(int(bars.times("bar_end")[len(targets)]), _told(error))
            failed.targets = np.array(targets, np.float64)
            raise failed from error
        return np.array(targets, np.float64)

    def _failed(self, ts: int | None, said: str, where: str = "at the bar ending") -> StrategyFailed:
        when = "" if ts is None else f" {where} {timestamp(ts)}"
        return StrategyFailed(f"strategy {self.strategy!r} failed{when}: {said}")


def together(members: Sequence[Strategy]) -> GroupDecider | None:
    """One compiled decider for strategies of one class, None where each is asked by itself.

    A class that decides in another way than the one whose `build_group` it inherits is asked by itself.
    """
    kind = type(members[0])
    maker = next(each for each in kind.__mro__ if "build_group" in vars(each))
    rule = next((each for each in kind.__mro__ if _RULES & vars(each).keys()), Strategy)
    return kind.build_group(members) if maker is Strategy or issubclass(maker, rule) else None


_RULES = {"build", "kernel", "on_bar", "on_bars"}
"""What says how a strategy decides."""


def _decides_itself(kind: type[Strategy]) -> bool:
    """Whether `on_bar` or `on_bars` of the class is its rule, also where it inherits a `build` from a class below."""
    rule: type = next((each for each in kind.__mro__ if _RULES & vars(each).keys()), Strategy)
    return not {"build", "kernel"} & vars(rule).keys()


def _has_kernel(kind: type[Strategy]) -> bool:
    """Whether the rule is a kernel: a subclass of it that decides in another way has none."""
    for each in kind.__mro__:
        if each is Strategy or "kernel" in vars(each):
            return each is not Strategy
        if {"build", "on_bar", "on_bars"} & vars(each).keys():
            break
    return False


def _is_numeric(kind: Any) -> bool:
    """Whether a field's declared type is int, float or bool, or one of them or None."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    kinds = set(get_args(kind)) - {type(None)} if isinstance(kind, UnionType) or get_origin(kind) is Union else {kind}
    return bool(kinds) and all(each in (int, float, bool) for each in kinds)


_KEEP = math.nan
_LARGEST = 2**53
"""Whole numbers below this are exact as float64."""


def _number(target: Any) -> float:
    """A target as a float; ints and floats, which nearly all of them are, pass without a call."""
    if (type(target) is int and -_LARGEST < target < _LARGEST) or (
        type(target) is float and -math.inf < target < math.inf
    ):
        return target
    number = float(target) if isinstance(target, int | float | np.number) else math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected a target such as 1, 0 or -1, or None to keep it, found {target!r}")
    return number


def _told(error: BaseException) -> str:
    hint = ""
    if isinstance(error, AttributeError) and isinstance(error.obj, Bar):
        hint = f"; it has {', '.join(error.obj.__struct_fields__)}; a feature must be among those of features()"
    return f"{type(error).__name__}: {error}{hint}"
