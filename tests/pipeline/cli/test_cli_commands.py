from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from pipeline.cli.new import project
from pipeline.cli.program import COMMANDS

Penstock = Callable[..., Result]

SMALL = """\
name: small
topology: backtest
containers:
  data: {type: synthetic, rows: 4000, seed: 1}
  portfolio_*:
    strategy: {type: sma_cross}
    data_flow: {mode: memory, memory_limit_mb: 20}
parameter_space:
  fast: [5, 10]
  slow: [20, 40]
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def test_help_names_every_command(penstock: Penstock) -> None:
    told = penstock("--help")
    assert told.exit_code == 0
    names = ("run", "check", "explain", "schema", "report", "inspect", "verify", "demo", "new")
    assert all(name in told.stdout for name in names)
    for name in names:
        assert penstock(name, "--help").exit_code == 0


def test_version_is_that_of_the_package(penstock: Penstock) -> None:
    assert penstock("--version").stdout.startswith("penstock, version ")


# -- check ---------------------------------------------------------------------------------------------------------


def test_check_counts_containers_and_combinations_and_shows_the_order(penstock: Penstock, small: Path) -> None:
    told = penstock("check", small)
    assert told.exit_code == 0
    lines = told.stdout.splitlines()
    assert lines[0] == "ok: 4 containers, 4 combinations, phase run"
    assert [line.split()[0] for line in lines[1:]] == ["data", "features", "portfolio", "execution"]
    assert lines[3].endswith("x 4 <- features")


def test_check_tells_every_problem_on_a_line_of_its_own(penstock: Penstock, small: Path) -> None:
    small.write_text(SMALL.replace("rows: 4000", "rowz: 4000").replace("mode: memory", "mode: hybird"))
    told = penstock("check", small)
    assert told.exit_code == 2
    assert told.stdout == ""
    lines = told.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{small}:4: containers.data.rowz: ") and "rows" in lines[0]
    assert lines[1].startswith(f"{small}:7: containers.portfolio_*.data_flow.mode: ") and "hybrid" in lines[1]


def test_check_of_a_file_that_is_not_there_is_a_bad_configuration(penstock: Penstock, small: Path) -> None:
    told = penstock("check", small.with_name("smal.yaml"))
    assert told.exit_code == 2
    assert "there is no such file" in told.stderr and "small.yaml" in told.stderr


def test_check_reads_overrides_and_names_them(penstock: Penstock, small: Path) -> None:
    assert penstock("check", small, "--set", "parameter_space.fast=[5]").stdout.startswith("ok: 4 containers, 2 ")
    told = penstock("check", small, "--set", "containers.data.rows=many")
    assert told.exit_code == 2 and "--set" in told.stderr


def test_check_refuses_a_pool_that_can_never_do_and_says_where_it_is_set(penstock: Penstock, small: Path) -> None:
    small.write_text(SMALL + "process_memory_mb: 0.02\n")
    told = penstock("check", small)
    assert told.exit_code == 2 and not told.stdout
    assert told.stderr.startswith(f"{small}:11: process_memory_mb: the pool is 0.02 MB, and a batch of 'data' alone")
    assert penstock("check", small, "--set", "process_memory_mb=64").exit_code == 0
    warned = penstock("plan", small, "--set", "process_memory_mb=1")
    assert warned.exit_code == 0 and "raise `process_memory_mb` to 2.0 MB or more" in warned.stdout


def test_a_cycle_is_told_by_check(penstock: Penstock, tmp_path: Path) -> None:
    path = tmp_path / "cycle.yaml"
    path.write_text(
        "containers:\n"
        "  data: {type: synthetic}\n"
        "  one: {type: bars, every: 1m, inputs: [two]}\n"
        "  two: {type: bars, every: 1m, inputs: [one]}\n"
    )
    told = penstock("check", path)
    assert told.exit_code == 2 and "cycle" in told.stderr


# -- explain -------------------------------------------------------------------------------------------------------


def test_explain_shows_value_and_line_of_each_setting_of_a_member(penstock: Penstock, small: Path) -> None:
    told = penstock("explain", small, "portfolio_0003")
    rows = {words[0]: words[1:] for line in told.stdout.splitlines() if (words := line.split())}
    assert rows["data_flow.memory_limit_mb"] == ["20", "small.yaml:7"]
    assert rows["strategy.fast"] == ["10", "small.yaml:9"]
    assert rows["strategy.slow"] == ["40", "small.yaml:10"]
    assert rows["inputs"] == ["features", "topology", "default"]
    assert rows["fills.at"] == ["next_open", "built-in", "default"]


def test_explain_without_a_name_shows_everything(penstock: Penstock, small: Path) -> None:
    told = penstock("explain", small)
    assert "containers.data.rows" in told.stdout and "containers.execution.objective" in told.stdout


LOSSY = """\
containers:
  ticks: {type: push}
  past: {type: synthetic, schema: trade, rows: 100}
  bars: {type: bars, every: 1m, inputs: [{from: FEED, when_full: drop_oldest}]}
"""


def test_a_lossy_input_that_loses_nothing_is_told_by_check_explain_and_plan(penstock: Penstock, tmp_path: Path) -> None:
    path = tmp_path / "lossy.yaml"
    path.write_text(LOSSY.replace("FEED", "past"))
    note = "containers.bars.inputs: 'when_full: drop_oldest' from 'past' acts as 'block': no live feed is upstream"
    for words in (("check", path), ("explain", path), ("explain", path, "bars"), ("plan", path)):
        told = penstock(*words)
        assert told.exit_code == 0 and note in told.stdout, told.stderr
    assert note not in penstock("explain", path, "past").stdout
    path.write_text(LOSSY.replace("FEED", "ticks").replace("type: bars, every: 1m", "type: console"))
    assert "acts as" not in penstock("check", path).stdout


def test_c1_a_lossy_input_of_a_live_feed_is_refused_in_a_run_with_checkpoints(
    penstock: Penstock, tmp_path: Path
) -> None:
    """What it loses on purpose would be another loss when the run goes on."""
    path = tmp_path / "lossy.yaml"
    path.write_text(LOSSY.replace("FEED", "ticks").replace("type: bars, every: 1m", "type: console"))
    assert penstock("check", path).exit_code == 0
    for words in (("check", path), ("run", path), ("plan", path)):
        told = penstock(*words, "--set", "checkpoint.every_seconds=1")
        assert told.exit_code == 2
        assert "lossy.yaml:4: containers.bars.inputs: expected an input that loses nothing" in told.stderr
        assert "found 'when_full: drop_oldest' from 'ticks'" in told.stderr
    told = penstock("run", path, "--checkpoint", "30s")
    assert told.exit_code == 2 and "expected an input that loses nothing" in told.stderr


def test_explain_of_an_unknown_name_suggests_one(penstock: Penstock, small: Path) -> None:
    told = penstock("explain", small, "fetures")
    assert told.exit_code == 2 and "features" in told.stderr


def test_explain_prints_the_graph_as_mermaid(penstock: Penstock, small: Path) -> None:
    told = penstock("explain", small, "--mermaid")
    assert told.stdout.startswith("flowchart LR\n") and "portfolio x 4" in told.stdout


# -- new -----------------------------------------------------------------------------------------------------------


def test_new_writes_a_project_that_runs(penstock: Penstock) -> None:
    assert penstock("new", "mine").exit_code == 0
    assert {path.name for path in Path("mine").iterdir()} == set(project())
    told = penstock("run", "mine/backtest.yaml", "--json")
    assert told.exit_code == 0, told.stderr
    summary = json.loads(told.stdout)
    assert summary["aggregate_metrics"]["execution"]["portfolios"] == {"planned": 6, "run": 6, "failed": 0}
    received = summary["ledger"]["containers"]
    assert 0 < received["features"]["received"] < received["busy"]["received"]
    assert summary["aggregate_metrics"]["execution"]["best"]["strategy"] == "MyStrategy"


def test_new_overwrites_nothing(penstock: Penstock, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("precious")
    told = penstock("new", "mine")
    assert told.exit_code == 1 and "not empty" in told.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["README.md"]
    assert (tmp_path / "mine" / "README.md").read_text() == "precious"


def test_new_takes_an_empty_folder_and_refuses_a_file(penstock: Penstock, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert penstock("new", "empty").exit_code == 0
    assert penstock("new", "file").exit_code == 1
    assert penstock("new", "file/below").exit_code == 1


def test_what_new_writes_uses_only_public_names() -> None:
    imported = [line for text in project().values() for line in text.splitlines() if " import " in line]
    assert "from stages import Feature, Strategy" in imported
    assert not [line for line in imported if line.lstrip().startswith(("from stages.", "from pipeline."))]


@pytest.mark.parametrize("name", sorted(project()))
def test_what_new_writes_passes_the_linter(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(project()[name])
    if name.endswith(".py"):
        checked = subprocess.run(
            [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "E,F,W,I,B", path],
            capture_output=True,
            text=True,
        )
        assert checked.returncode == 0, checked.stdout


# -- run -----------------------------------------------------------------------------------------------------------


def test_run_ends_in_a_table_and_a_few_lines(penstock: Penstock, small: Path, tmp_path: Path) -> None:
    told = penstock("run", small)
    assert told.exit_code == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[0] == "execution"
    assert [line.split()[0] for line in lines[3:7]] == ["1", "2", "3", "4"]
    labels = ["rows ", "wall time ", "rows/s ", "peak RSS ", "spilled ", "results ", "look at them "]
    assert [line[: len(label)] for line, label in zip(lines[-7:], labels, strict=True)] == labels
    assert lines[-7].split() == ["rows", "4,000"]
    assert (tmp_path / lines[-2].split()[1]).is_dir()


def test_what_run_says_to_look_at_can_be_looked_at(penstock: Penstock, small: Path, tmp_path: Path) -> None:
    last = penstock("run", small).stdout.splitlines()[-1]
    code = last.split("-c ", 1)[1].strip("'")
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert shown.stdout


def test_a_feed_that_gives_no_row_is_named_at_the_end(penstock: Penstock, small: Path, tmp_path: Path) -> None:
    told = penstock("run", small, "--until", "1999-01-01")
    assert told.exit_code == 0
    assert (
        "no data       data gave no row; look at the path, and at `begin`, --until and --limit"
        in told.stdout.splitlines()
    )
    (tmp_path / "empty.csv").write_text("time,open,high,low,close\n")
    told = penstock("run", small, "--data", "empty.csv", "--set", "containers.data={type: replay}")
    assert "the feed gave no row: there is none in empty.csv" in told.stderr


def test_json_is_the_summary_and_nothing_else(penstock: Penstock, small: Path) -> None:
    told = penstock("run", small, "--json")
    summary = json.loads(told.stdout)
    folder = Path(summary.pop("folder"))
    assert summary == json.loads((folder / "run" / "summary.json").read_text())


def test_a_complete_run_is_not_repeated_without_force(penstock: Penstock, small: Path) -> None:
    first = penstock("run", small).stdout.splitlines()
    again = penstock("run", small).stdout.splitlines()
    assert again[0].startswith("already complete: results/small/") and again[0].endswith("; --force runs it again")
    assert again[1:-7] == first[:-7]
    forced = penstock("run", small, "--force").stdout.splitlines()
    assert forced[0] == "execution" and forced[:-7] == first[:-7]
    assert json.loads(penstock("run", small, "--json").stdout)["status"] == "complete"


def test_limit_until_and_output_reach_the_run(penstock: Penstock, small: Path, tmp_path: Path) -> None:
    told = penstock("run", small, "--limit", "500", "--output", tmp_path / "there", "--json")
    summary = json.loads(told.stdout)
    assert summary["ledger"]["containers"]["data"]["sent"] == 500
    assert summary["folder"].startswith(str(tmp_path / "there"))
    told = penstock("run", small, "--until", "2024-01-01T01:00:00Z", "--json")
    assert 50 <= json.loads(told.stdout)["ledger"]["containers"]["data"]["sent"] <= 60


@pytest.mark.parametrize(
    "wrong", [["--until", "tomorrow"], ["--limit", "0"], ["--set", "nonsense"], ["--log-level", "x"]]
)
def test_wrong_options_are_exit_code_two(penstock: Penstock, small: Path, wrong: list[str]) -> None:
    assert penstock("run", small, *wrong).exit_code == 2


def test_data_without_a_path_names_both_ways_out(penstock: Penstock, small: Path) -> None:
    small.write_text(SMALL.replace("type: synthetic, rows: 4000, seed: 1", "type: replay"))
    assert penstock("check", small).exit_code == 0
    told = penstock("run", small)
    assert told.exit_code == 1
    assert "--data PATH" in told.stderr and "type: synthetic" in told.stderr and "Traceback" not in told.stderr


def test_data_with_a_path_to_nothing_is_told_in_a_sentence(penstock: Penstock, small: Path) -> None:
    told = penstock("run", small, "--data", "nowhere.parquet")
    assert told.exit_code in (1, 2)
    assert "nowhere.parquet" in told.stderr and "Traceback" not in told.stderr


FAILING = """
from pipeline import Stage, Transform
class Breaks(Stage, frozen=True):
    def build(self, context):
        return Breaking()
class Breaking(Transform):
    def on_batch(self, batch):
        raise ZeroDivisionError("on purpose")
"""


def test_a_failure_names_container_and_record_and_shows_no_traceback(
    penstock: Penstock, small: Path, tmp_path: Path
) -> None:
    (tmp_path / "breaks.py").write_text(FAILING)
    small.write_text(
        "name: small\ncontainers:\n  data: {type: synthetic, rows: 100}\n"
        "  broken: {type: './breaks.py:Breaks', inputs: [data]}\n"
    )
    told = penstock("run", small)
    assert told.exit_code == 1
    assert told.stdout == ""
    error = told.stderr[told.stderr.index("error: ") :]
    assert len(error.splitlines()) == 1
    assert "container 'broken' failed: ZeroDivisionError: on purpose" in error
    record = Path(error.rsplit(" is in ", 1)[1].strip())
    assert json.loads(record.read_text())["status"] == "failed"
    debugged = penstock("run", small, "--debug").stderr
    assert "breaks.py" in debugged and "Traceback" in debugged


def test_quiet_says_nothing_but_the_results(penstock: Penstock, small: Path) -> None:
    told = penstock("run", small, "--quiet")
    assert told.stderr == ""
    assert told.stdout.startswith("execution\n") and "peak RSS" not in told.stdout


def test_progress_lines_are_logs_and_can_be_json(penstock: Penstock, small: Path) -> None:
    told = penstock("run", small, "--log-format", "json", "--set", "containers.data.rows=400000")
    lines = [json.loads(line) for line in told.stderr.splitlines()]
    figures = next(line for line in lines if "rows_per_second" in line)
    assert figures["phase"] == "run" and figures["rows"] > 0 and figures["logger"] == "penstock.progress"


def test_the_switch_interval_is_that_of_before_when_a_run_has_ended(penstock: Penstock, small: Path) -> None:
    before = sys.getswitchinterval()
    penstock("run", small, "--quiet")
    assert sys.getswitchinterval() == before


# -- demo ----------------------------------------------------------------------------------------------------------


def test_demo_runs_the_very_file_in_configs(penstock: Penstock) -> None:
    told = penstock("demo", "--limit", "20000", "--json")
    assert told.exit_code == 0, told.stderr
    assert json.loads(told.stdout)["aggregate_metrics"]["execution"]["portfolios"]["run"] == 12


def test_the_demo_of_the_package_is_the_one_in_configs() -> None:
    root = Path(__file__).parents[3]
    assert (root / "pipeline/cli/demo.yaml").read_bytes() == (root / "configs/demo.yaml").read_bytes()


def test_a_demo_on_other_data_reads_that(penstock: Penstock) -> None:
    assert "nowhere" in penstock("demo", "--data", "nowhere.csv").stderr


# -- the list of commands ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "said"), COMMANDS.items())
def test_a_command_is_listed_with_the_words_its_own_help_begins_with(penstock: Penstock, name: str, said: str) -> None:
    own = " ".join(penstock(name, "--help").stdout.split("\n\n")[1].split())
    assert own.startswith(said.rstrip(".")), own
    assert " ".join(f"{name} {said}".split()) in " ".join(penstock("--help").stdout.split())


def test_every_module_that_holds_a_command_is_listed(penstock: Penstock) -> None:
    import pipeline.cli

    written = {
        file.stem for file in Path(pipeline.cli.__file__).parent.glob("*.py") if "@click.command" in file.read_text()
    }
    assert written == {name.replace("-", "_") for name in COMMANDS}


def test_a_misspelt_command_is_told_the_one_that_was_meant(penstock: Penstock) -> None:
    told = penstock("chekc")
    assert told.exit_code == 2 and "Did you mean 'check'?" in told.stderr
