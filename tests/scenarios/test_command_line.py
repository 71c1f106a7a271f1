"""The program as a person or a script meets it: a process, its streams, its signals and its exit code."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from tests.patience import SECONDS

ROOT = Path(__file__).parents[2]
BARS = ROOT / "configs" / "bars.yaml"
ENDLESS = ("--set", "containers.data.rows=2000000000000")

STUCK = """
import asyncio
from pipeline import Stage, Transform
class Stuck(Stage, frozen=True):
    def build(self, context):
        return Sticking()
class Sticking(Transform):
    async def on_batch(self, batch):
        await asyncio.sleep(3600)
"""


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "pipeline", *map(str, words)]


def environment(**more: str) -> dict[str, str]:
    """This process's, without what changes how output looks; the checkout is found from any folder."""
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
    paths = os.pathsep.join([str(ROOT), *filter(None, [plain.get("PYTHONPATH")])])
    return {**plain, "PYTHONPATH": paths, "TERM": "xterm", **more}


def penstock(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=folder, env=environment(), capture_output=True, text=True, timeout=SECONDS
    )


@contextmanager
def running(folder: Path, *words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """The program at work; killed if the test does not see it end."""
    with subprocess.Popen(
        command(*words), cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        overdue = Timer(SECONDS, process.kill)
        overdue.start()
        try:
            yield process
        finally:
            process.kill()
            overdue.cancel()
            overdue.join()


def line_with(process: subprocess.Popen[str], words: str) -> str:
    """The next line on stderr that holds these words."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if words in line:
            return line
    raise AssertionError(f"no line with {words!r} in:\n{''.join(seen)}")


def until_rows_flow(process: subprocess.Popen[str]) -> None:
    """Reads JSON logs until some rows have been given."""
    while json.loads(line_with(process, '"rows":'))["rows"] == 0:
        pass


# -- exit codes and streams ----------------------------------------------------------------------------------------


def test_a_run_ends_with_0_and_speaks_plainly_away_from_a_terminal(tmp_path: Path) -> None:
    done = penstock(tmp_path, "run", BARS, "--limit", "5000")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "results/bars/" in done.stdout and "preparing bars" in done.stderr
    again = penstock(tmp_path, "run", BARS, "--limit", "5000")
    assert again.returncode == 0 and again.stdout.startswith("already complete: results/bars/")


def test_json_is_all_there_is_on_stdout(tmp_path: Path) -> None:
    done = penstock(tmp_path, "run", BARS, "--limit", "5000", "--json")
    assert json.loads(done.stdout)["ledger"]["containers"]["save_minutes"]["committed"] > 0


def test_a_wrong_file_ends_with_2_and_names_every_line(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("name: x\nconteiners: {}\nseed: often\n")
    done = penstock(tmp_path, "run", "wrong.yaml")
    assert done.returncode == 2
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == ["wrong.yaml:2", "wrong.yaml:3"]


def test_what_is_no_yaml_ends_with_2_and_the_line(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("name: x\ncontainers: [unclosed\n")
    done = penstock(tmp_path, "run", "wrong.yaml")
    assert done.returncode == 2 and "wrong.yaml:" in done.stderr and "Traceback" not in done.stderr


def test_a_missing_file_and_an_unknown_command_end_with_2(tmp_path: Path) -> None:
    assert penstock(tmp_path, "run", "none.yaml").returncode == 2
    assert penstock(tmp_path, "walk").returncode == 2


def test_a_reader_that_leaves_is_no_failure(tmp_path: Path) -> None:
    with running(tmp_path, "explain", BARS) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.wait(SECONDS) == 0
        assert process.stderr.read() == ""


# -- the terminal --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
def test_results_that_cannot_be_printed_are_an_error_and_no_traceback(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command("demo", "--output", tmp_path, "--limit", "3000"), cwd=tmp_path, env=environment(),
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "error: [Errno 28] No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def on_terminal(folder: Path, *words: str | Path, **more: str) -> tuple[int, str]:
    """Exit code and everything printed on a terminal of its own."""
    outer, inner = pty.openpty()
    try:
        with subprocess.Popen(
            command(*words), cwd=folder, env=environment(**more), stdout=inner, stderr=inner
        ) as process:
            os.close(inner)
            printed = b""
            while piece := _read(outer):
                printed += piece
            return process.wait(SECONDS), printed.decode()
    finally:
        os.close(outer)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux tells the end of a terminal this way
        return b""


def test_a_terminal_sees_live_progress(tmp_path: Path) -> None:
    code, printed = on_terminal(tmp_path, "run", BARS, "--limit", "300000")
    assert code == 0
    assert "\x1b[" in printed and "memory" in printed and "rows/s" in printed


def test_no_color_means_no_escape_code_even_on_a_terminal(tmp_path: Path) -> None:
    code, printed = on_terminal(tmp_path, "demo", "--limit", "3000", NO_COLOR="1")
    assert code == 0
    assert "\x1b" not in printed and "portfolio_0000" in printed


# -- signals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_finishes_what_is_under_way_and_reports_it(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, "run", BARS, *ENDLESS, "--log-format", "json", "--json") as process:
        until_rows_flow(process)
        process.send_signal(number)
        line_with(process, "stopping: rows under way are finished")
        assert process.stdout is not None
        summary = json.loads(process.stdout.read())
        assert process.wait(SECONDS) == 130
    assert summary["status"] == "interrupted"
    books = summary["ledger"]["containers"]
    assert books["save_minutes"]["committed"] == books["minutes"]["sent"] > 0
    assert books["data"]["sent"] == books["minutes"]["received"]
    assert (Path(tmp_path, summary["folder"]) / "run" / "minutes").is_dir()


def test_a_signal_before_the_first_row_ends_an_empty_run(tmp_path: Path) -> None:
    with running(tmp_path, "demo", "--json") as process:
        line_with(process, "preparing demo")
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None and process.stderr is not None
        summary, told = process.stdout.read(), process.stderr.read()
        assert process.wait(SECONDS) == 130, told
    assert json.loads(summary)["status"] == "interrupted"


def stuck(folder: Path) -> Path:
    (folder / "stuck.py").write_text(STUCK)
    config = folder / "stuck.yaml"
    config.write_text(
        "containers:\n  data: {type: synthetic, rows: 100}\n  stuck: {type: './stuck.py:Stuck', inputs: [data]}\n"
    )
    return config


def test_the_second_signal_stops_at_once(tmp_path: Path) -> None:
    with running(tmp_path, "run", stuck(tmp_path)) as process:
        line_with(process, "run finishing, 100 rows")
        process.send_signal(signal.SIGINT)
        line_with(process, "stopping: ")
        process.send_signal(signal.SIGINT)
        line_with(process, "stopping at once")
        assert line_with(process, "no summary was published").startswith("stopped at once")
        assert process.wait(SECONDS) == 130
    assert not list(tmp_path.rglob("summary.json"))


def test_what_does_not_finish_in_time_is_stopped(tmp_path: Path) -> None:
    with running(tmp_path, "run", stuck(tmp_path), "--drain-seconds", "0.1") as process:
        line_with(process, "run finishing, 100 rows")
        process.send_signal(signal.SIGTERM)
        line_with(process, "not finished after 0.1 s")
        assert process.wait(SECONDS) == 130


# -- what a command imports ----------------------------------------------------------------------------------------


COMPILERS = ("numba", "llvmlite", "pandas", "polars")
ENGINE = ("pipeline.service", "pipeline.engines", "pipeline.data.factory", "anyio", "aiofiles")
TOOLS = ("pyarrow.compute", "pyarrow.parquet", "pyarrow.csv", "pyarrow.dataset", "rich", "plotly", "jinja2")
COLUMNS = ("numpy", "pyarrow", "msgspec", "yaml", "asyncio", "stages")
NOTHING_READ = (*COMPILERS, *ENGINE, *TOOLS, *COLUMNS)
NOTHING_RUN = (*COMPILERS, *ENGINE, *TOOLS)


@pytest.mark.parametrize(
    ("words", "unneeded"),
    [
        (("--help",), NOTHING_READ),
        (("--version",), NOTHING_READ),
        (("chekc",), NOTHING_READ),
        (("new", "made"), NOTHING_READ),
        (("check", BARS), NOTHING_RUN),
        (("check", "--help"), NOTHING_RUN),
        (("explain", BARS), NOTHING_RUN),
        (("plan", BARS), NOTHING_RUN),
        (("schema",), NOTHING_RUN),
        (("schema", "--data"), NOTHING_RUN),
        (("inspect", "absent"), (*COMPILERS, *ENGINE, "stages", "yaml", "rich", "plotly")),
        (("verify", "absent"), (*COMPILERS, *ENGINE, "stages", "yaml", "rich", "plotly")),
        (("report", "absent"), (*COMPILERS, "stages", "rich", "plotly", "jinja2")),
        (("run", "--help"), (*COMPILERS, "stages", "plotly", "jinja2")),
    ],
)
def test_a_command_imports_nothing_it_does_not_need(
    tmp_path: Path, words: tuple[Any, ...], unneeded: tuple[str, ...]
) -> None:
    code = (
        "import sys\nfrom pipeline.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('imported:', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    imported = done.stdout.splitlines()[-1].split()
    assert imported[0] == "imported:" and "pipeline.cli.program" in imported, done.stderr
    assert not [name for name in imported if name in unneeded], done.stderr


def test_importing_the_package_imports_none_of_it_until_a_name_is_asked_for(tmp_path: Path) -> None:
    code = (
        "import sys, pipeline\nprint(*sys.modules)\n"
        "from pipeline import parse_duration, DataFlow\nprint(*sys.modules)\n"
        "from pipeline import *\nprint(compose.__name__, Pipeline.__name__, 'Run' in dir(pipeline))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=SECONDS
    )
    at_first, then, after = (set(line.split()) for line in done.stdout.splitlines())
    assert not at_first & {*NOTHING_READ, "pipeline.durations"}, done.stderr
    assert {"pipeline.durations", "pipeline.data.policy"} <= then and not then & {*NOTHING_RUN}
    assert after == {"compose", "Pipeline", "True"}
