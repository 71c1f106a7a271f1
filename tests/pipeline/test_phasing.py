"""Declared phases become phases that run: windows of splits and walks, warm-ups counted, spans of data."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import ConfigError, InputError, Pipeline, Registry, compose, load_config
from pipeline.phasing import plan_phases, warmup_of
from pipeline.walks import data_span, expanded
from pipeline.windows import WarmUp

DAY = 86_400_000_000_000
MINUTE = 60_000_000_000
HEAD = """\
containers:
  data: {type: synthetic, rows: 14400, interval: 1m}
parameter_space: {fast: [5, 10], slow: [20, 30]}
"""
"""Ten days of minutes from 2024-01-01 on."""
REGISTRY = Registry.installed()


def windows(text: str, head: str = HEAD) -> dict[str, str]:
    return {plan.name: plan.window.said() for plan in plan_phases(load_config(head + text, registry=REGISTRY))}


def test_a_split_by_shares_is_of_the_data_from_its_first_bar_to_its_last() -> None:
    assert windows("split: {train: 0.6, validate: 0.2, test: 0.2}\n") == {
        "train": ".. 2024-01-07",
        "validate": "2024-01-07 .. 2024-01-09",
        "test": "2024-01-09 ..",
    }


def test_a_split_by_dates_needs_no_data() -> None:
    head = "containers: {data: {type: replay}}\n"
    text = "split: {train: 2021-01-01, validate: 2022-01-01T12:00:00Z, test: end}\n"
    assert windows(text, head) == {
        "train": ".. 2021-01-01",
        "validate": "2021-01-01 .. 2022-01-01 12:00:00",
        "test": "2022-01-01 12:00:00 ..",
    }


def test_phases_take_their_windows_from_the_split_and_the_rest_from_themselves() -> None:
    text = "split: {a: 0.5, b: 0.5}\nphases:\n  - {name: a}\n  - {name: b, select: {from: a, top: 1}}\n  - {name: c}\n"
    a, b, c = plan_phases(load_config(HEAD + text, registry=REGISTRY))
    assert (a.window.said(), b.window.said(), c.window.said()) == (".. 2024-01-06", "2024-01-06 ..", "")
    assert b.needs == ("a",)
    assert b.narrowed is not None
    assert list(b.narrowed(["portfolio_0002"])["portfolio"].members) == ["portfolio_0002"]


def test_a_rolling_walk_moves_both_windows_and_leaves_the_embargo_out() -> None:
    text = "walk_forward: {train: 4d, test: 2d, embargo: 12h, from: 2024-01-01, until: 2024-01-11}\n"
    assert windows(text) == {
        "train_000": "2024-01-01 .. 2024-01-05",
        "test_000": "2024-01-05 12:00:00 .. 2024-01-07 12:00:00",
        "train_001": "2024-01-03 .. 2024-01-07",
        "test_001": "2024-01-07 12:00:00 .. 2024-01-09 12:00:00",
        "train_002": "2024-01-05 .. 2024-01-09",
        "test_002": "2024-01-09 12:00:00 .. 2024-01-11",  # three quarters of a test window
        "report": "",
    }


def test_an_anchored_walk_trains_from_the_beginning() -> None:
    text = "walk_forward: {train: 4d, test: 2d, step: 3d, mode: anchored}\n"
    assert windows(text) == {
        "train_000": "2024-01-01 .. 2024-01-05",
        "test_000": "2024-01-05 .. 2024-01-07",
        "train_001": "2024-01-01 .. 2024-01-08",
        "test_001": "2024-01-08 .. 2024-01-10",
        "report": "",
    }


def test_test_windows_have_names_in_order_and_what_selects_them() -> None:
    text = "walk_forward: {train: 1d, test: 1d, select: {top: 3, by: calmar}}\n"
    plans = plan_phases(load_config(HEAD + text, registry=REGISTRY))
    tests = [plan for plan in plans if plan.select is not None]
    assert [plan.name for plan in tests] == sorted(plan.name for plan in tests)
    assert len(tests) == 9
    for plan in tests:
        assert plan.select is not None
        assert (plan.select.source, plan.select.top, plan.select.by) == (
            plan.name.replace("test", "train"),
            3,
            "calmar",
        )
    assert plans[-1].needs == tuple(plan.name for plan in plans[:-1])


def test_a_walk_longer_than_the_data_says_how_much_there_is() -> None:
    with pytest.raises(ConfigError, match=r"expected room for train 30d.*found 10 days in all"):
        plan_phases(load_config(HEAD + "walk_forward: {train: 30d, test: 1d}\n", registry=REGISTRY))


def test_a_walk_of_too_many_steps_is_refused_before_anything_is_made() -> None:
    text = "walk_forward: {train: 1s, test: 1s, from: 2000-01-01, until: 2020-01-01}\n"
    with pytest.raises(ConfigError, match="expected at most 1,000 test windows, found 631,151,999"):
        plan_phases(load_config(HEAD + text, registry=REGISTRY))


def test_data_of_which_nobody_knows_the_span_needs_its_ends_written() -> None:
    head = "containers: {data: {type: push}, out: {type: console, inputs: [data]}}\n"
    with pytest.raises(ConfigError, match=r"nobody knows where 'data' \(Push\) begins and ends; write the times"):
        plan_phases(load_config(head + "split: {a: 0.5, b: 0.5}\n", registry=REGISTRY))


def test_the_span_is_of_what_limit_and_until_leave() -> None:
    config = load_config(HEAD + "limit: 1440\n", registry=REGISTRY)
    first, last = data_span(config)
    assert last - first == DAY
    config = load_config(HEAD + "until: 2024-01-03\n", registry=REGISTRY)
    assert data_span(config) == (first, first + 2 * DAY - 1)
    assert expanded(config, lambda: (first, last)) == config.phases


def test_auto_is_what_the_longest_feature_of_those_in_use_needs() -> None:
    topology = compose(load_config(HEAD, registry=REGISTRY))
    assert warmup_of(topology, "auto") == WarmUp(count=31, every_ns=MINUTE)
    narrow = compose(load_config(HEAD, registry=REGISTRY), only={"portfolio_0000"})
    assert warmup_of(narrow, "auto") == WarmUp(count=21, every_ns=MINUTE)
    assert warmup_of(topology, "500 bars") == WarmUp(count=500, every_ns=MINUTE)
    assert warmup_of(topology, "2h") == WarmUp(duration_ns=120 * MINUTE)
    longer = compose(load_config(HEAD.replace("\nparam", "\n  features: {bars: 5m}\nparam"), registry=REGISTRY))
    assert warmup_of(longer, "auto") == WarmUp(count=31, every_ns=5 * MINUTE)


def test_ticks_without_bars_cannot_be_counted_as_bars(tmp_path: Path) -> None:
    head = HEAD.replace("type: synthetic", "type: synthetic, schema: trade")
    text = head + "phases: [{name: a, window: {from: 2024-01-02}, warmup: 100 bars}]\n"
    config = load_config(text.replace("\nparam", "\n  features: {bars: 1m}\nparam"), registry=REGISTRY)
    assert [plan.name for plan in plan_phases(config)] == ["a"]
    graph = "containers:\n  data: {type: synthetic, schema: trade}\n  out: {type: console, inputs: [data]}\n"
    graph += "phases: [{name: a, window: {from: 2024-01-02}, warmup: 100 bars}]\n"
    with pytest.raises(ConfigError, match=r"phases.0.warmup.*nobody knows how long a bar lasts; write a duration"):
        Pipeline.from_yaml(graph, output=tmp_path)
    with pytest.raises(InputError, match="nobody knows"):
        warmup_of(compose(load_config(graph, registry=REGISTRY)), "3 bars")
