"""Tests of pipeline/config/load.py and convert.py: every problem at once, where it is and what to try."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from config_fakes import Features, registry

from pipeline.config import load_config
from pipeline.errors import ConfigError


def problems(source: Any, *overrides: str, **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(source, registry=registry(), overrides=overrides, **options)
    return [str(problem) for problem in caught.value.problems]


def problem(source: Any, *overrides: str, **options: Any) -> str:
    found = problems(source, *overrides, **options)
    assert len(found) == 1, found
    return found[0].removeprefix("<text>:")


BAD = """\
name: ../etc
topolgy: backtest
process_memory_mb: -1
limit: 1.5
until: tomorrow
data_flow:
  default_mode: hybird
  default_memory_limit_mb: abc
  memry: 3
containers:
  data:
    type: replay
    pth: x.csv
    clock: {speed: fast}
    format: parqet
    data_flow: {mode: streaming, streaming_settings: {buffer_size: 0, bufer_mb: 1}}
  features:
    bars: 1
    windows: [1, two, 3.5]
    inputs: [dta]
  portfolio_*:
    strategy: {type: sma_cros, fast: 1}
    fills: {at: open, fee_bps: -3}
    data_flow: memory
  portfolio_0042:
    cash: 5
  exection:
    objective: sharpe
parameter_space:
  fast: [1, 2]
  slow: {start: 5, stop: 1, step: 1}
phases:
  - {name: one, needs: [two]}
  - {name: one}
"""


def test_numbers_no_machine_has_are_refused_with_the_largest_that_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    path.write_text(
        "topology: t\nprocess_memory_mb: 1e308\ndata_flow:\n  default_memory_limit_mb: 1e10\n"
        "containers:\n  data:\n    type: replay\n    path: x.parquet\n"
        "    data_flow: {memory_limit_mb: 1e308, min_free_disk_mb: 1e308, admission_timeout_seconds: .inf}\n"
    )
    found = "\n".join(problems(path))
    assert ":2: process_memory_mb: expected a positive number, found 1e+308; at most 1e+09" in found
    assert ":4: data_flow.default_memory_limit_mb: expected a positive number, found 10000000000.0; at most" in found
    assert "data_flow.memory_limit_mb: expected a positive number, found 1e+308; at most 1e+09" in found
    assert "data_flow.min_free_disk_mb: expected a number of at least 0, found 1e+308; at most 1e+09" in found
    assert "data_flow.admission_timeout_seconds: expected a positive number, found '.inf'" in found


def test_every_problem_of_a_bad_file_is_told_at_once_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    found = [line.removeprefix(str(path)) for line in problems(path)]
    assert found == [
        ":1: name: expected a name of letters, digits, '_', '-' and '.', at most 100, fit to be a folder, "
        "found '../etc'",
        ":2: topolgy: unknown setting; did you mean 'topology'?",
        ":3: process_memory_mb: expected a positive number, found -1",
        ":4: limit: expected a positive whole number, found 1.5",
        ":5: until: expected a time such as '2024-05-01T12:00:00Z', found 'tomorrow'",
        ":7: data_flow.default_mode: expected one of file, hybrid, memory, streaming, found 'hybird'; "
        "did you mean 'hybrid'?",
        ":8: data_flow.default_memory_limit_mb: expected a positive number, found 'abc'",
        ":9: data_flow.memry: unknown setting; did you mean 'memory_limit_mb'?",
        ":13: containers.data.pth: Replay has no setting 'pth'; did you mean 'path'?",
        ":14: containers.data.clock.speed: expected a positive number or max, found 'fast'",
        ":15: containers.data.format: expected one of auto, csv, parquet, found 'parqet'; did you mean 'parquet'?",
        ":16: containers.data.data_flow.streaming_settings.buffer_size: expected a positive whole number, found 0",
        ":16: containers.data.data_flow.streaming_settings.bufer_mb: unknown setting; did you mean 'buffer_mb'?",
        ":18: containers.features.bars: expected a duration such as '1m', found 1; write '1s'?",
        ":19: containers.features.windows.1: expected a whole number, found 'two'",
        ":19: containers.features.windows.2: expected a whole number, found 3.5",
        ":20: containers.features.inputs: no container matches 'dta'; did you mean 'data'?",
        ":22: containers.portfolio_*.strategy.type: no strategy is called 'sma_cros'; did you mean 'sma_cross'?",
        ":23: containers.portfolio_*.fills.at: expected one of close, next_open, found 'open'; "
        "did you mean 'next_open'?",
        ":23: containers.portfolio_*.fills.fee_bps: expected a number of at least 0, found -3",
        ":24: containers.portfolio_*.data_flow: expected a mapping of mode, memory_limit_mb, on_full, "
        "admission_timeout_seconds, ..., found 'memory'",
        ":27: containers.exection: no container is called 'exection'; did you mean 'execution'?",
        ":31: parameter_space.slow: expected a step that leads from 5 to 1, found 1",
        ":33: phases.0: no earlier phase is called 'two'; list a phase after those it needs",
        ":34: phases.1: expected phases with different names, found 'one' twice",
    ]


def test_a_misspelt_parameter_is_not_merely_a_missing_field() -> None:
    text = "parameter_space: {fsat: [1], slow: [2]}\ncontainers:\n  portfolio_*: {strategy: sma_cross}\n"
    assert problem(text) == (
        "3: containers.portfolio_*.strategy.fast: expected a whole number, found nothing; "
        "did you mean 'fast' by 'fsat' in parameter_space?"
    )


def test_a_parameter_that_was_refused_is_not_missed_elsewhere() -> None:
    text = "parameter_space: {fast: 1, slow: [2]}\ncontainers:\n  portfolio_*: {strategy: sma_cross}\n"
    assert problem(text).startswith("1: parameter_space.fast: expected a list, a range such as")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1: expected a mapping of settings, found an empty file"),
        ("# nothing\n", "1: expected a mapping of settings, found an empty file"),
        ("- a\n- b\n", "1: expected a mapping of settings, found a list"),
        ("just: [1\n", "2: expected YAML, found did not find expected ',' or ']'"),
        ("containers: [a]\n", "1: containers: expected a mapping, found a list"),
        ("containers: {data: 5}\n", "1: containers.data: expected a mapping of settings, found 5"),
        (
            "containers: {da/ta: {}}\n",
            "1: containers.da/ta: expected a container's name of letters, digits, "
            "'_', '-' and wildcards, at most 100, found 'da/ta'",
        ),
        (
            "containers: {'a*b*': {type: portfolio}}\n",
            "1: containers.a*b*: expected one '*' in the name of a group, found 'a*b*'",
        ),
        ("topology: bcktest\n", "1: topology: no topology has this name, found 'bcktest'; did you mean 'backtest'?"),
        ("parameter_space: {fast: []}\n", "1: parameter_space.fast: expected at least one value, found []"),
        (
            "parameter_space: {fast: 5}\n",
            "1: parameter_space.fast: expected a list, a range such as {start: 5, stop: 50, step: 5}, "
            "or a distribution such as {low: 0.1, high: 0.9}, found 5; write [5]?",
        ),
        (
            "parameter_space: {side: {start: 1, stop: 2, step: 0}}\n",
            "1: parameter_space.side: expected a step that leads from 1 to 2, found 0",
        ),
        (
            "parameter_space: {speed: [1]}\n",
            "1: parameter_space.speed: no group has this parameter; "
            "known: quantity, side, fills.at, fills.fee_bps, fills.slippage_bps",
        ),
        (
            "parameter_space: {cash: [1]}\n",
            "1: parameter_space.cash: no group has this parameter; it is the same for all of a group, set under "
            "`containers`; known: quantity, side, fills.at, fills.fee_bps, fills.slippage_bps",
        ),
        (
            "max_portfolios: 2000000000\n",
            "1: max_portfolios: expected a whole number above 0 and of at most 1,000,000, found 2000000000",
        ),
        ("cash: 5\n", "1: cash: unknown setting; it goes under a container: `containers.portfolio_*.cash`"),
        (
            "parameter_space:\n  quantity: [1, 2, x]\n",
            "2: parameter_space.quantity.2: expected a positive number, found 'x'",
        ),
        (
            "parameter_space: {a: [1]}\ncontainers: {s: {type: synthetic}}\n",
            "1: parameter_space.a: no group has this parameter; declare a container such as 'portfolio_*'",
        ),
        (
            "containers:\n  featurs: {bars: 1m}\n",
            "2: containers.featurs: no container is called 'featurs'; did you mean 'features'?",
        ),
        (
            "containers:\n  feat_*: {bars: 1m}\n",
            "2: containers.feat_*: no container matches 'feat_*'; did you mean 'features'?",
        ),
        (
            "containers:\n  portfolio_0001: {cash: 1}\n",
            "2: containers.portfolio_0001: no container is called "
            "'portfolio_0001'; members of portfolio_*: portfolio_0000",
        ),
        (
            "containers:\n  portfolio_1*: {cash: 1}\n",
            "2: containers.portfolio_1*: no container matches 'portfolio_1*'; members of portfolio_*: portfolio_0000",
        ),
        (
            "containers:\n  portfolio_0000: {inputs: data}\n",
            "2: containers.portfolio_0000.inputs: members of a group share its inputs; set them for the whole group",
        ),
        (
            "containers:\n  portfolio_0000: {csh: 1}\n",
            "2: containers.portfolio_0000.csh: Portfolio has no setting 'csh'; did you mean 'cash'?",
        ),
        (
            "containers:\n  features: {inputs: portfolio_0000}\n",
            "2: containers.features.inputs: a group is read as a whole, found 'portfolio_0000'; write 'portfolio_*'",
        ),
        (
            "containers:\n  features: {inputs: features}\n",
            "2: containers.features.inputs: a container cannot be its own input, found 'features'",
        ),
        (
            "containers:\n  features: {inputs: [{from: data, when_full: spilt}]}\n",
            "2: containers.features.inputs.0."
            "when_full: expected one of block, conflate, drop_newest, drop_oldest, spill, found 'spilt'; "
            "did you mean 'spill'?",
        ),
        (
            "containers:\n  features: {inputs: [{when_full: block}]}\n",
            "2: containers.features.inputs.0.from: expected text, found nothing",
        ),
        (
            "containers:\n  features: {inputs: [{from: data, key: a}]}\n",
            "2: containers.features.inputs.0: 'key' belongs to 'when_full: conflate'",
        ),
        (
            "containers:\n  data: {data_flow: {default_mode: file}}\n",
            "2: containers.data.data_flow.default_mode: unknown setting; did you mean 'mode'?",
        ),
        (
            "data_flow: {mode: file, default_mode: file}\n",
            "1: data_flow.default_mode: expected 'mode' or 'default_mode', found both",
        ),
        (
            "containers:\n  data: {type: replya}\n",
            "2: containers.data.type: no stage is called 'replya'; did you mean 'replay'?",
        ),
        ("containers:\n  data: {type: hold}\n", "2: containers.data.type: 'hold' is Hold, which is not a Stage"),
        (
            "containers:\n  portfolio_*: {strategy: {quantity: 1}}\n",
            "2: containers.portfolio_*.strategy.type: expected 'type', the name of a strategy; known: hold, sma_cross",
        ),
        (
            "containers:\n  portfolio_*: {strategy: {type: replay}}\n",
            "2: containers.portfolio_*.strategy.type: 'replay' is Replay, which is not a Strategy",
        ),
        (
            "containers:\n  portfolio_*: {strategy: {type: sma_cross, fast: 5, slow: 2}}\n",
            "2: containers.portfolio_*.strategy: expected fast below slow, found 5 and 2",
        ),
        (
            "containers:\n  execution: {objective: 600519}\n",
            '2: containers.execution.objective: expected text, found 600519; write "600519" in quotes?',
        ),
        (
            "containers:\n  data: {batch_rows: true}\n",
            "2: containers.data.batch_rows: expected a positive whole number, found true",
        ),
        (
            "containers:\n  data: {batch_rows: 1e999}\n",
            "2: containers.data.batch_rows: expected a positive whole number, found inf",
        ),
        ("phases: []\n", "1: phases: expected at least one phase, found []"),
    ],
)
def test_a_problem_says_where_what_and_what_to_try(text: str, expected: str) -> None:
    assert problem(text) == expected


def test_a_container_more_than_the_ready_made_ones_asks_for_their_topology() -> None:
    text = "containers:\n  log: {type: execution, inputs: features}\n  portfolio_0003: {cash: 1}\n"
    assert problems(text) == [
        "<text>:2: containers.log.inputs: no container matches 'features'; add 'topology: backtest'?",
        "<text>:3: containers.portfolio_0003: no container is called 'portfolio_0003'; add 'topology: backtest'?",
    ]


def test_a_member_is_no_container_of_its_own() -> None:
    text = "topology: backtest\ncontainers:\n  portfolio_0000: {type: portfolio}\n"
    assert problem(text) == (
        "3: containers.portfolio_0000: 'portfolio_0000' is a member of 'portfolio_*'; remove its 'type'"
    )


@pytest.mark.parametrize("seed", range(300))
def test_a_mangled_file_is_a_config_error_or_a_config(seed: int) -> None:
    """T9."""
    random = Random(seed)
    pieces = [
        "null",
        "[]",
        "{}",
        "-1",
        "yes",
        "'",
        "*a",
        "&a ",
        "<<: ",
        "type: ",
        "${X",
        "\t",
        "\n",
        "- ",
        "?",
        "1e400",
    ]
    text = BAD
    for _ in range(random.randint(1, 5)):
        at = random.randrange(len(text))
        text = text[:at] + random.choice(pieces) + text[at + random.choice([0, 1, 5]) :]
    assert problems(text)


def test_a_duration_without_its_unit(tmp_path: Path) -> None:
    path = tmp_path / "live.yaml"
    path.write_text("containers:\n  features:\n    bars: 1\n")
    assert problem(path) == (
        f"{path}:3: containers.features.bars: expected a duration such as '1m', found 1; write '1s'?"
    )


def test_secrets_stay_out_of_messages() -> None:
    text = "containers:\n  feed: {type: live, api_key: [hunter2]}\n  other: {type: live, api_key: 12345}\n"
    found = problems(text)
    assert found == [
        "<text>:2: containers.feed.api_key: expected text, found ***",
        "<text>:3: containers.other.api_key: expected text, found ***",
    ]


def test_set_says_so_when_it_is_wrong() -> None:
    assert problem("name: a", "containers.features.bars=1").startswith(
        "--set: containers.features.bars: expected a dur"
    )
    assert problem("name: a", "nmae=b") == "--set: nmae: unknown setting; did you mean 'name'?"
    assert problem("name: a", "name") == "--set: expected --set a.b=c, found 'name'"
    assert problem("name: a", "a..b=1") == "--set: expected --set a.b=c, found 'a..b'"
    assert "--set: limit: expected YAML" in problem("name: a", "limit=[1")
    assert "no container is called 'x'" in problem("name: a", "containers.x.path=y")


def test_set_parses_its_value_as_yaml() -> None:
    overrides = ["limit=5", "name=b", "containers.features={bars: 5m}", "parameter_space.quantity=[1, 2]"]
    config = load_config("name: a", registry=registry(), overrides=overrides)
    assert (config.limit, config.name, len(config.parameter_space)) == (5, "b", 2)
    assert config.stage_of("features") == Features(bars="5m")


def test_a_file_that_is_not_there_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "backtest.yaml").touch()
    assert problem(tmp_path / "backtst.yaml").endswith("there is no such file; did you mean 'backtest.yaml'?")
    assert problem(str(tmp_path / "backtst.yaml")).endswith("did you mean 'backtest.yaml'?")
    assert "cannot read it" in problem(tmp_path)
    assert "cannot read it" in problem("a\0b.yaml")
    assert "cannot read it" in problem("x" * 5000)
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: \xe9\n")
    assert problem(tmp_path / "latin.yaml").endswith("latin.yaml:2: expected UTF-8 text")


def test_the_name_is_the_files_own(tmp_path: Path) -> None:
    path = tmp_path / "my sweep.yaml"
    path.write_text("﻿limit: 5\n", encoding="utf-8")
    config = load_config(path, registry=registry())
    assert (config.name, config.limit) == ("my_sweep", 5)


def test_a_class_of_ones_own_is_named_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from pipeline.stage import Stage\n\n\nclass Mine(Stage, frozen=True):\n    width: int = 3\n"
    )
    path = tmp_path / "c.yaml"
    path.write_text("containers:\n  a: {type: './mine.py:Mine', width: 4}\n")
    config = load_config(path, registry=registry())
    assert config.stage_of("a").width == 4  # type: ignore[attr-defined]
    assert config.to_mapping()["containers"]["a"]["type"] == "mine.py:Mine"
    path.write_text("containers:\n  a: {type: './mine.py:Mime'}\n")
    assert problem(path) == f"{path}:2: containers.a.type: './mine.py' has no class 'Mime'"


def test_the_environment_reaches_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARS", "15m")
    monkeypatch.delenv("NOWHERE", raising=False)
    config = load_config("containers: {features: {bars: '${BARS}'}}", registry=registry())
    assert config.stage_of("features") == Features(bars="15m")
    assert "the environment variable NOWHERE" in problem("output: ${NOWHERE}")


def test_what_is_not_plain_data_in_a_mapping_is_a_problem() -> None:
    assert problem({"name": object()}).startswith("name: expected plain data, found object")
    circle: dict[str, Any] = {}
    circle["circle"] = circle
    assert any("levels of nesting" in found for found in problems(circle))


def test_loading_does_not_import_numba() -> None:
    code = "import sys, pipeline.config; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


INPUTS = """\
containers:
  data: {type: synthetic}
  data_2: {type: synthetic}
  both: {type: features, inputs: %s}
"""


@pytest.mark.parametrize(
    ("inputs", "found"),
    [
        ("[data, data]", "'data' twice"),
        ("['data*', data_2]", "'data*' and 'data_2'"),
        ("['data*', 'd*']", "'data*' and"),
    ],
)
def test_an_input_named_twice_is_a_problem(inputs: str, found: str) -> None:
    told = problem(INPUTS % inputs)
    assert told.startswith(f"4: containers.both.inputs: expected each input once, found {found}")
    assert "would come twice; remove one of the two" in told


def test_inputs_that_share_no_container_are_none() -> None:
    load_config(INPUTS % "[data, data_2]", registry=registry())


@pytest.mark.parametrize(("values", "twice"), [("[5, 7, 5]", "5"), ("[5, 5.0]", "5.0")])
def test_a_parameter_that_takes_a_value_twice_is_a_problem(values: str, twice: str) -> None:
    text = f"""\
containers:
  data: {{type: synthetic}}
  portfolio_*: {{type: portfolio, inputs: data, strategy: {{type: sma_cross, slow: 40}}}}
parameter_space:
  fast: {values}
"""
    told = problem(text)
    assert told.startswith("5: parameter_space.fast.")
    assert f"expected each value once, found {twice} twice; equal values make members that are the same" in told


def test_no_word_is_doubled_where_the_text_is_no_yaml() -> None:
    assert problem("a: 1\n\tb: 2\n").startswith("2: expected YAML, found a tab character")


@pytest.mark.parametrize("text", ["%d/%m/%Y %H:%M", "@x", "it's"])
def test_what_begins_no_yaml_is_a_text_on_the_command_line(text: str) -> None:
    source = "containers:\n  data: {type: replay}\n"
    config = load_config(source, registry=registry(), overrides=[f"containers.data.path={text}"])
    assert config.stage_of("data").path == text  # type: ignore[attr-defined]
