"""Strategies of the user's own whose rule is compiled: what they are given, and what they are told when it fails."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
import pytest
from portfolio_bars import columns, random_bars, run_alone, run_group

from pipeline import PenstockError
from pipeline.registry import Registry
from pipeline.stage import Context
from stages.features.feature import Feature
from stages.portfolio import kernel as kernels
from stages.portfolio.bars import Bars
from stages.portfolio.portfolio import Portfolio
from stages.portfolio.strategy import Strategy, StrategyFailed

BARS = random_bars(200, single=0)


class Above(Strategy, frozen=True):
    """Long while the close is above its average by a margin."""

    columns: ClassVar[tuple[str, ...]] = ("close",)

    n: int = 5
    margin: float = 0.0
    short: bool = False
    note: str = ""
    limit: float | None = None
    most: Annotated[int, msgspec.Meta(ge=1)] = 7

    def features(self) -> Any:
        return [Feature.sma(self.n), "sma_20"]

    @staticmethod
    def kernel(inputs: Any, parameters: Any, targets: Any) -> None:
        close, mean, long_mean = inputs
        n, margin, short = parameters[0], parameters[1], parameters[2]
        if n == 13 and targets.size:
            raise ValueError("thirteen is not for me")
        if n == 15:
            targets[len(targets)] = 1.0
        if n == 16:
            targets[-len(targets) - 1] = 1.0
        for bar in range(len(targets)):
            if long_mean[bar] == long_mean[bar]:
                above = close[bar] > mean[bar] * (1 + margin)
                targets[bar] = 1.0 if above else -short
                if n == 14 and above:
                    targets[bar] = np.inf


class AboveInNumpy(Above, frozen=True):
    """The same rule decided in another way, so that it has no kernel."""

    def on_bars(self, bars: Bars) -> Any:
        above = bars.close > bars[Feature.sma(self.n)] * (1 + self.margin)
        return np.where(np.isnan(bars["sma_20"]), np.nan, np.where(above, 1.0, -float(self.short)))


def members(kind: type[Above] = Above) -> list[Above]:
    return [kind(n=n, margin=margin, short=short) for n in (2, 5) for margin in (0.0, 0.001) for short in (True, False)]


def seen(count: int = 200) -> Bars:
    return Bars(columns(BARS[:count], [Feature.sma(n) for n in (2, 5, 13, 14, 20)]).columns)


def test_a_kernel_decides_what_numpy_decides() -> None:
    group = Above.build_group(members())
    assert group is not None
    group.look(seen(), 0, 200)
    targets = np.empty((8, 200))
    group.on_bars(0, targets)
    for own, one, other in zip(targets, members(), members(AboveInNumpy), strict=True):
        np.testing.assert_array_equal(own, one.build().on_bars(seen()))  # type: ignore[union-attr]
        np.testing.assert_array_equal(own, other.build().on_bars(seen()))  # type: ignore[union-attr]


def test_parameters_are_the_numeric_fields_in_their_order() -> None:
    np.testing.assert_array_equal(Above(short=True).parameters(), [5, 0, 1, np.nan, 7])
    assert Above(limit=2.5, quantity=9).parameters()[3:] == [2.5, 7]


def test_every_distinct_column_is_read_once() -> None:
    group = Above.build_group(members())
    assert group._names == ["close", "sma_2", "sma_20", "sma_5"]  # type: ignore[union-attr]


def test_a_subclass_that_decides_in_another_way_has_no_kernel() -> None:
    assert AboveInNumpy.build_group(members(AboveInNumpy)) is None
    assert isinstance(AboveInNumpy().build(), AboveInNumpy)
    assert Strategy.build_group([]) is None


def test_many_in_a_group_fill_as_each_alone() -> None:
    batches = [
        columns(BARS, [Feature.sma(n) for n in (2, 5, 20)]).columns.slice(begin, 37) for begin in range(0, 200, 37)
    ]
    from pipeline.frames import Batch

    portfolios = {str(place): Portfolio(strategy=strategy) for place, strategy in enumerate(members())}
    together = run_group(portfolios, [Batch(batch) for batch in batches])
    for name, portfolio in portfolios.items():
        assert together.rows(name) == run_alone(portfolio, [Batch(batch) for batch in batches]).rows() != []


def test_threads_that_ask_for_members_of_their_own_get_the_same() -> None:
    group = Above.build_group(members() * 40)
    assert group is not None
    group.look(seen(), 0, 200)
    one, many = np.empty((320, 200)), np.empty((320, 200))
    group.on_bars(0, one)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda first: group.on_bars(first, many[first : first + 5]), range(0, 320, 5)))
    assert one.tobytes() == many.tobytes()


def test_what_a_kernel_raises_names_the_member_and_the_bars() -> None:
    group = Above.build_group([*members(), Above(n=13), Above(n=2)])
    assert group is not None
    group.look(seen(), 60, 100)
    targets = np.empty((10, 100))
    failed = group.on_bars(0, targets)
    assert failed is not None
    assert list(failed) == [8]
    said = r"Above\(.*n=13.*in the block of bars from 2024-01-01 01:01:00: in its kernel: ValueError: thirteen is"
    assert re.search(said, str(failed[8]))
    assert np.isnan(targets[8]).all()
    assert not np.isnan(targets[[0, 9]]).all()


def test_an_infinite_target_is_refused_with_the_bars_time() -> None:
    group = Above.build_group([*members(), Above(n=14)])
    assert group is not None
    group.look(seen(), 0, 200)
    failed = group.on_bars(4, np.empty((5, 200)))
    assert failed is not None
    assert list(failed) == [8]
    assert re.search(r"Above\(.*n=14.*at the bar ending 2024-01-01 01:\d+:00: the target is inf", str(failed[8]))
    one = Portfolio(strategy=Above(n=14))
    with pytest.raises(StrategyFailed, match="infinite"):
        run_alone(one, [columns(BARS, [Feature.sma(14), Feature.sma(20)])])


class Uncompilable(Strategy, frozen=True):
    """Uses what numba does not know."""

    @staticmethod
    def kernel(inputs: Any, parameters: Any, targets: Any) -> None:
        targets[:] = print(targets, file=None, flush=True) or {}["x"]


class Meddling(Strategy, frozen=True):
    """Writes to what others read."""

    columns: ClassVar[tuple[str, ...]] = ("close",)

    @staticmethod
    def kernel(inputs: Any, parameters: Any, targets: Any) -> None:
        inputs[0, 0] = 1.0


@pytest.mark.parametrize(("kind", "said"), [(Uncompilable, "print"), (Meddling, "read")])
def test_a_kernel_that_cannot_be_compiled_says_so_before_data_flows(kind: type[Strategy], said: str) -> None:
    logic = Portfolio(strategy=kind()).build(Context(name="portfolio"))
    with pytest.raises(
        StrategyFailed, match=rf"strategy {kind.__name__} failed: its kernel cannot be comp.*{said}.*numpy"
    ):
        logic.warm()


class Uneven(Strategy, frozen=True):
    """Asks for more features the larger n is."""

    n: int = 1

    def features(self) -> Any:
        return [Feature.sma(n + 1) for n in range(self.n)]

    @staticmethod
    def kernel(inputs: Any, parameters: Any, targets: Any) -> None:
        targets[:] = 0.0


def test_members_of_different_shape_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"same number of features whatever its fields, found 1 in Uneven.* and 2 in Un"
    ):
        Uneven.build_group([Uneven(), Uneven(n=2)])


MINE = """
from stages import Feature, Strategy


class Mine(Strategy, frozen=True):
    n: int = 5

    def features(self):
        return [Feature.sma(self.n), Feature.sma(20)]

    @staticmethod
    def kernel(inputs, parameters, targets):
        fast, slow = inputs
        for bar in range(len(targets)):
            if slow[bar] == slow[bar]:
                targets[bar] = 1.0 if fast[bar] > slow[bar] else 0.0
"""


def test_a_kernel_in_a_file_of_the_users_leaves_nothing_beside_it(tmp_path: Path) -> None:
    from stages.portfolio.strategies.sma_cross import SmaCross

    (tmp_path / "mine.py").write_text(MINE)
    mine = Registry().find("./mine.py:Mine", Strategy, tmp_path)
    batch = columns(BARS, [Feature.sma(5), Feature.sma(20)])
    built_in = Portfolio(strategy=SmaCross(fast=5, slow=20))
    assert run_alone(Portfolio(strategy=mine()), [batch]).rows() == run_alone(built_in, [batch]).rows() != []
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def test_the_compiled_walk_is_its_python_self() -> None:
    group = Above.build_group(members())
    assert group is not None
    group.look(seen(), 0, 200)
    found = []
    for walk, rule in ((kernels.walker(), kernels.compiled(Above.kernel)), (kernels.walk, Above.kernel)):
        targets = np.empty((8, 200))
        assert walk(rule, group._matrix, group._places, group._parameters, targets) == -1  # type: ignore[attr-defined]
        found.append(targets.tobytes())
    assert found[0] == found[1]


def test_a_member_whose_kernel_fails_is_recorded_and_the_others_go_on() -> None:
    from pipeline.frames import Batch

    bars = columns(BARS, [Feature.sma(n) for n in (2, 5, 13, 14, 20)]).columns
    batches = [Batch(bars.slice(begin, 37)) for begin in range(0, 200, 37)]
    good = {str(place): Portfolio(strategy=strategy) for place, strategy in enumerate(members())}
    bad = {"thirteen": Portfolio(strategy=Above(n=13)), "infinite": Portfolio(strategy=Above(n=14))}
    together = run_group({**good, **bad}, batches)
    for name, portfolio in good.items():
        assert together.rows(name) == run_alone(portfolio, batches).rows() != []
    (rows,) = together.batches
    errors = dict(zip(rows["container"].to_pylist(), rows["error"].to_pylist(), strict=True))
    assert "thirteen is not for me" in errors["thirteen"]
    assert "infinite" in errors["infinite"]
    assert [errors[name] for name in good] == [None] * len(good)


def test_the_phase_fails_where_too_many_kernels_do() -> None:
    from pipeline.frames import Batch

    bars = Batch(columns(BARS, [Feature.sma(n) for n in (5, 13, 20)]).columns)
    portfolios = {str(n): Portfolio(strategy=Above(n=n), max_failed_share=0.3) for n in (5, 13)}
    with pytest.raises(PenstockError, match=r"1 of 2 portfolios failed, and max_failed_share is 0\.3; the first, '13'"):
        run_group(portfolios, [bars])


@pytest.mark.parametrize("n", [15, 16])
def test_a_kernel_that_writes_beyond_its_targets_is_told_and_touches_nobody_else(n: int) -> None:
    from pipeline.frames import Batch

    bars = Batch(columns(BARS, [Feature.sma(length) for length in (2, 5, n, 20)]).columns)
    good = {str(place): Portfolio(strategy=strategy) for place, strategy in enumerate(members())}
    together = run_group({**good, "wild": Portfolio(strategy=Above(n=n))}, [bars])
    for name, portfolio in good.items():
        assert together.rows(name) == run_alone(portfolio, [bars]).rows() != []
    errors = dict(
        zip(together.batches[0]["container"].to_pylist(), together.batches[0]["error"].to_pylist(), strict=True)
    )
    assert "IndexError" in errors["wild"]


class Unpacking(Strategy, frozen=True):
    columns: ClassVar[tuple[str, ...]] = ("close",)
    n: int = 1

    @staticmethod
    def kernel(inputs: Any, parameters: Any, targets: Any) -> None:
        close, other = inputs
        targets[:] = close > other


def test_a_kernel_that_unpacks_what_it_is_not_given_is_told_what_it_is() -> None:
    with pytest.raises(StrategyFailed, match=r"ValueError: it is given 1 inputs \(close\) and 1 parameters"):
        kernels.OneKernel(Unpacking()).on_bars(Bars(columns(BARS).columns))
