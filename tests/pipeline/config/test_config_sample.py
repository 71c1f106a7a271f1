"""Tests of pipeline/config/space/sample.py: seeded, within constraints, none twice, the same in every process."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from typing import Any

import pytest

from pipeline.config import Distribution, Range, Sample
from pipeline.config.space import Steps, TooFew, sample
from pipeline.config.space.axes import Axis
from pipeline.config.space.where import parse

CONTINUOUS: dict[str, Axis] = {
    "fast": Distribution(low=2, high=50),
    "slow": Distribution(low=20, high=400, scale="log"),
    "share": Distribution(low=0.01, high=1.0),
}
DISCRETE: dict[str, Axis] = {"fast": tuple(range(1, 31)), "slow": Steps(Range(start=10, stop=300, step=10))}


def drawn(axes: dict[str, Axis], size: int, where: str = "", seed: int = 7, **words: Any) -> list[tuple[Any, ...]]:
    constraints = [parse(where)] if where else []
    found = sample.draw(axes, constraints, Sample(size=size, **words), (seed, 0))
    assert len(found) == len(set(found)) == size
    return found


@pytest.mark.parametrize("method", ["random", "latin_hypercube"])
@pytest.mark.parametrize("axes", [CONTINUOUS, DISCRETE])
def test_a_sample_satisfies_its_constraints_and_repeats_nothing(axes: dict[str, Axis], method: Any) -> None:
    found = drawn(axes, 200, "slow > 2 * fast", method=method)
    assert all(point[1] > 2 * point[0] for point in found)
    assert found == drawn(axes, 200, "slow > 2 * fast", method=method)
    assert found != drawn(axes, 200, "slow > 2 * fast", method=method, seed=8)


def test_fewer_at_random_are_the_first_of_more() -> None:
    huge: dict[str, Axis] = {"a": Steps(Range(start=1, stop=10**9)), "b": Steps(Range(start=1, stop=10**9))}
    for axes, where in ((CONTINUOUS, "slow > fast"), (DISCRETE, "slow > fast"), (huge, ""), (huge, "a < b")):
        assert drawn(axes, 500, where)[:40] == drawn(axes, 40, where)


def test_another_axis_changes_nothing_about_the_others() -> None:
    more = {**CONTINUOUS, "band": Distribution(low=0.0, high=1.0)}
    assert [point[:3] for point in drawn(more, 50)] == drawn(CONTINUOUS, 50)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_latin_hypercube_meets_every_part_of_every_range_once(size: int) -> None:
    axes: dict[str, Axis] = {"x": Distribution(low=0.0, high=1.0), "y": Distribution(low=1.0, high=100.0, scale="log")}
    found = drawn(axes, size, method="latin_hypercube")
    assert sorted(int(x * size) for x, _ in found) == list(range(size))
    assert sorted(int(math.log(y, 100) * size) for _, y in found) == list(range(size))


def test_all_of_a_grid_can_be_sampled_and_no_more() -> None:
    everything = {(fast, slow) for fast in DISCRETE["fast"] for slow in DISCRETE["slow"] if fast < slow}  # type: ignore[union-attr]
    for method in ("random", "latin_hypercube"):
        assert set(drawn(DISCRETE, len(everything), "fast < slow", method=method)) == everything
        with pytest.raises(TooFew) as caught:
            drawn(DISCRETE, len(everything) + 1, "fast < slow", method=method)
        assert (caught.value.found, caught.value.known) == (len(everything), True)


def test_every_combination_of_a_grid_is_as_likely() -> None:
    counts = dict.fromkeys([(a, b) for a in range(4) for b in range(4) if a < b], 0)
    axes: dict[str, Axis] = {"a": tuple(range(4)), "b": tuple(range(4))}
    for seed in range(600):
        counts[drawn(axes, 1, "a < b", seed=seed)[0]] += 1
    assert sum(counts.values()) == 600 and min(counts.values()) > 60, "100 each, give or take four deviations"


def test_a_tight_constraint_on_a_huge_grid_is_no_search_for_a_needle() -> None:
    axes: dict[str, Axis] = {"a": tuple(range(1500)), "b": tuple(range(1500)), "c": Steps(Range(start=1, stop=10**15))}
    found = drawn(axes, 300, "a == b + 1000")
    assert all(a == b + 1000 for a, b, _ in found)


def test_a_search_that_finds_too_little_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "MAX_DRAWS", 5_000)
    for method in ("random", "latin_hypercube"):
        with pytest.raises(TooFew) as caught:
            drawn(CONTINUOUS, 100, "fast > slow + 29", method=method)
        assert caught.value.found < 100 and not caught.value.known


def test_values_that_cannot_be_hashed_are_sampled_too() -> None:
    axes: dict[str, Axis] = {"windows": ([1], [2], [3]), "n": (1, 2)}
    found = sample.draw(axes, [], Sample(size=6), (0, 0))
    assert sorted(found) == [([w], n) for w in (1, 2, 3) for n in (1, 2)]


def test_the_numbers_are_these_on_every_machine() -> None:
    assert drawn(CONTINUOUS, 2) == PINNED["random"]
    assert drawn(CONTINUOUS, 2, method="latin_hypercube") == PINNED["latin_hypercube"]


PINNED: dict[str, list[tuple[Any, ...]]] = {
    "random": [(18, 157, 0.800836253994), (39, 63, 0.592016180354)],
    "latin_hypercube": [(24, 208, 0.804666585118), (44, 42, 0.436522418344)],
}


def test_every_process_and_hash_seed_draws_the_same() -> None:
    code = (
        "from pipeline.config import Distribution, Sample; from pipeline.config.space.sample import draw; "
        "from pipeline.config.space.where import parse; "
        "axes = {'fast': Distribution(low=2, high=50), 'slow': Distribution(low=20, high=400, scale='log')}; "
        "print(draw(axes, [parse('fast < slow')], Sample(size=50), (7, 0)), "
        "draw(axes, [], Sample(size=50, method='latin_hypercube'), (7, 1)))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(told) == 1 and len(told.pop()) > 1000
