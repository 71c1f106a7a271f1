"""Phases as they are written: what is wrong with them is told at once, with its line and what to try."""

from __future__ import annotations

import pytest

from pipeline import ConfigError, Registry, load_config
from pipeline.config.phase import bars_of

HEAD = """\
containers:
  data: {type: synthetic, rows: 1000}
parameter_space: {fast: [5, 10], slow: [20, 30]}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(HEAD + text, registry=Registry.installed())
    return [str(problem) for problem in caught.value.problems]


def test_a_warm_up_in_bars_is_a_number_and_the_word() -> None:
    assert (bars_of("500 bars"), bars_of("1 bar"), bars_of("auto"), bars_of("30d")) == (500, 1, None, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "phases:\n  - {name: a, window: {from: 2024-02-01, until: 2024-01-01}}\n",
            "<text>:5: phases.0.window: expected a window whose `from` is before its `until`, "
            "found 2024-02-01 to 2024-01-01, which is empty",
        ),
        (
            "phases:\n  - {name: train, window: {until: 2024-02-01}}\n"
            "  - {name: test, window: {from: 2024-01-15}, select: {from: train}}\n",
            "<text>:6: phases.1.window: expected a window from 2024-02-01 on, where 'train' ends, which it selects "
            "from, found one that begins at 2024-01-15; a selection must not see the data it is tried on",
        ),
        (
            "phases:\n  - {name: train, window: {until: 2024-02-01}}\n  - {name: test, select: {from: train}}\n",
            "found one that begins with the data",
        ),
        (
            "phases:\n  - {name: train}\n  - {name: test, window: {from: 2024-01-15}, select: {from: train}}\n",
            "expected 'train', which it selects from, to end: it has no `until`",
        ),
        (
            "phases:\n  - {name: train}\n  - {name: test, select: {from: trian}}\n",
            "<text>:6: phases.1.select.from: no earlier phase is called 'trian'; did you mean 'train'?",
        ),
        (
            "phases:\n  - {name: test, select: {from: train}}\n  - {name: train}\n",
            "phases.0.select.from: no earlier phase is called 'train'; list a phase after those it needs",
        ),
        (
            "phases:\n  - {name: a}\n  - {name: b, select: {from: a, by: sharp}}\n",
            "<text>:6: phases.1.select.by: there is no statistic 'sharp' to rank by; did you mean 'sharpe'?",
        ),
        (
            "phases:\n  - {name: a}\n  - {name: b, select: {from: a, top: 0}}\n",
            "<text>:6: phases.1.select.top: expected a positive whole number, found 0",
        ),
        (
            "phases:\n  - {name: a, window: {from: 2024-01-01}, warmup: 500}\n",
            "<text>:5: phases.0.warmup: expected a warm-up such as 'auto', '500 bars' or '30d', found 500; "
            "write '500 bars'?",
        ),
        (
            "phases:\n  - {name: a, warmup: 30d}\n",
            "phases.0.warmup: a warm-up is what lies before a window that has a `from`; "
            "give the phase `window: {from: ...}`, or remove it",
        ),
        (
            "phases:\n  - {name: a, containers: {portfolios_*: {fills: {fee_bps: 5}}}}\n",
            "<text>:5: phases.0.containers.portfolios_*: ",
        ),
        (
            "phases:\n  - {name: a, containers: {portfolio_*: {fills: {fee_bsp: 5}}}}\n",
            "phases.0.containers.portfolio_*.fills.fee_bsp: unknown",
        ),
        (
            "phases:\n  - {name: a, containers: {other: {type: execution}}}\n",
            "a phase declares no container of its own; declare it under `containers:` of the file",
        ),
        (
            "phases:\n  - {name: a, containers: {execution: {inputs: [features]}}}\n",
            "phases share one graph; set `inputs` under `containers:` of the file",
        ),
        ("split: {train: 0.6, test: 0.3}\n", "expected shares above 0 that make 1 in all, found 0.6 + 0.3 = 0.9"),
        ("split: {train: 0.6, test: end}\n", "expected shares of the data or dates, found both"),
        ("split: {train: 2024-02-01, test: 2024-01-01}\n", "expected a time after that of 'train', found 2024-01-01"),
        ("split: {train: end, test: 2024-01-01}\n", "only the last part ends where the data does"),
        ("split: {train: soon, test: end}\n", "expected a share such as 0.6, the time at which it ends, or 'end'"),
        (
            "split: {train: 0.5, tset: 0.5}\nphases: [{name: train}, {name: test}]\n",
            "<text>:4: split.tset: no phase is called 'tset'; did you mean 'test'?",
        ),
        (
            "split: {a: 0.5, b: 0.5}\nphases:\n  - {name: b}\n  - {name: a, select: {from: b}}\n",
            "expected 'b' to come before 'a' in the split; a selection must not see the data it is tried on",
        ),
        (
            "split: {a: 0.5, b: 0.5}\nphases:\n  - {name: a, window: {until: 2024-01-01}}\n  - {name: b}\n",
            "expected a window or a part in the split, found both; remove one of the two",
        ),
        (
            "walk_forward: {train: 2d, test: 1d}\nphases: [{name: a}]\n",
            "<text>:4: walk_forward: expected `walk_forward` or `phases`, found both",
        ),
        (
            "walk_forward: {train: 2d, test: 2d, step: 1d}\n",
            "walk_forward.step: expected a step of at least `test`, 2d, found 1d; "
            "test windows that overlap would count the same days twice",
        ),
        (
            "walk_forward: {train: 90d, test: 10d, from: 2024-01-01, until: 2024-02-01}\n",
            "walk_forward.train: expected room for train 90d, embargo 0s and at least half of test 10d, "
            "found 31 days in all; shorten `train` or take more data",
        ),
        ("walk_forward: {train: 90d}\n", "walk_forward.test: "),
        ("walk_forward: {train: 2d, test: 1d, mode: rollin}\n", "did you mean 'rolling'?"),
        ("walk_forward: {train: 2d, test: 1d, select: {by: fees_}}\n", "walk_forward.select.by: there is no statistic"),
    ],
)
def test_each_problem_of_phases_is_told_with_what_to_try(text: str, said: str) -> None:
    found = problems(text)
    assert any(said in problem for problem in found), found


def test_all_problems_are_told_at_once() -> None:
    found = problems(
        "phases:\n"
        "  - {name: a, window: {from: 2024-02-01, until: 2024-01-01}}\n"
        "  - {name: b, select: {from: c, by: nothing}}\n"
        "  - {name: b, containers: {nobody: {top: 3}}}\n"
    )
    assert len(found) >= 5, found


def test_what_a_phase_sets_is_over_the_file_and_under_set() -> None:
    text = HEAD.replace("parameter_space", "  portfolio_*: {fills: {fee_bps: 1, slippage_bps: 1}}\nparameter_space") + (
        "phases:\n  - {name: a}\n  - name: b\n    containers:\n"
        "      portfolio_*: {fills: {fee_bps: 5}}\n      portfolio_0001: {fills: {fee_bps: 7}}\n"
    )
    config = load_config(text, registry=Registry.installed())
    fees = {name: config.for_phase(name).stage_of("portfolio_0000").fills.fee_bps for name in ("a", "b")}
    assert fees == {"a": 1, "b": 5}
    assert config.for_phase("b").stage_of("portfolio_0001").fills.fee_bps == 7
    assert config.for_phase("b").stage_of("portfolio_0000").fills.slippage_bps == 1
    over = load_config(
        text, registry=Registry.installed(), overrides=["containers.portfolio_*.fills.fee_bps=9"]
    ).for_phase("b")
    assert over.stage_of("portfolio_0000").fills.fee_bps == 9
    rows = {row.setting: row.where for row in config.for_phase("b").settings_of("portfolio_0000")}
    assert rows["fills.fee_bps"] == "<text>:9"
