"""`penstock replay`: a recording before a person's eyes, steered by keys, as JSON, or through a configuration."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import Result

from pipeline import Batch
from pipeline.cli.keys import keys_in
from pipeline.cli.latest import Board
from tests.patience import SECONDS

Penstock = Callable[..., Result]


@pytest.fixture
def trades(tmp_path: Path) -> Path:
    """One trade a second, for an hour, of two instruments in turns."""
    lines = [f"{1_700_000_000 + at},{'AB'[at % 2]}.DEMO,{100 + at % 7}.50,{1 + at % 3}" for at in range(3600)]
    file = tmp_path / "trades.csv"
    file.write_text("ts_event,instrument_id,price,size\n" + "\n".join(lines) + "\n")
    return file


def test_where_nobody_watches_the_market_is_told_at_the_end(penstock: Penstock, trades: Path) -> None:
    told = penstock("replay", trades)
    assert told.exit_code == 0, told.stderr
    head, rule, a, b, rows = told.stdout.splitlines()
    assert head.split() == ["instrument", "last", "size", "bid", "size", "bid", "ask", "ask", "size", "rows"]
    assert a.split() == ["A.DEMO", "100.5", "2", "-", "-", "-", "-", "1,800"]
    assert b.split()[0] == "B.DEMO" and rows == "3,600 rows" and set(rule) == {"─"}
    assert sorted(path.name for path in Path().iterdir()) == ["trades.csv"], "it leaves nothing behind"


def test_what_is_wrong_with_messages_is_told_where_the_rows_are(penstock: Penstock, tmp_path: Path) -> None:
    """A run of which most is unreadable does not look like one that went well."""
    quote = '{"u":1,"s":"BTCUSDT","b":"1.00","B":"1","a":"2.00","A":"1"}'
    lines = [f'172316125408789126{at} {{"stream":"btcusdt@bookTicker","data":{quote}}}' for at in range(4)]
    (tmp_path / "btcusdt_20240808.txt").write_text("\n".join(lines) + "\n")
    told = penstock("replay", "btcusdt_20240808.txt", "--venue", "kraken")
    assert told.exit_code == 0 and told.stdout.splitlines()[-1] == "4 rows, market: 4 parse_error"
    Path("market.yaml").write_text(
        "name: market\ncontainers:\n  data: {type: replay, path: btcusdt_20240808.txt, venue: kraken}\n"
        "  bars: {type: bars, inputs: [data], every: 1m}\n"
    )
    told = penstock("run", "market.yaml", "--quiet")
    assert "quality" not in told.stdout
    (line,) = [line for line in penstock("run", "market.yaml", "--force").stdout.splitlines() if "quality" in line]
    assert line.startswith("quality       run: data: 4 parse_error; penstock quality results/market/")


def test_a_replay_that_gave_nothing_says_where_to_look(penstock: Penstock, trades: Path) -> None:
    told = penstock("replay", trades, "--from", "2034-01-01")
    assert told.exit_code == 0 and told.stdout == "0 rows\n"
    assert "nothing came; look at the path, and at --records, --from and --until" in told.stderr


def test_each_row_is_a_line_of_json_and_from_and_until_cut(penstock: Penstock, trades: Path) -> None:
    times = ("--from", "2023-11-14T22:30:00Z", "--until", "2023-11-14T22:30:05Z")
    told = penstock("replay", trades, "--json", "--speed", "1e6", *times)
    rows = [json.loads(line) for line in told.stdout.splitlines()]
    assert [row["ts_event"] // 10**9 for row in rows] == list(range(1_700_001_000, 1_700_001_005))
    assert (rows[0]["record"], rows[0]["price"], rows[0]["instrument_id"]) == ("trade", "106.50000000", "A.DEMO")


def test_a_configuration_is_run_with_its_clock_overridden(penstock: Penstock, trades: Path) -> None:
    Path("market.yaml").write_text(
        "name: market\ncontainers:\n  data: {type: replay, path: trades.csv}\n"
        "  bars: {type: bars, inputs: [data], every: 1m}\n"
    )
    told = penstock("replay", "market.yaml", "--speed", "1e6", "--from", "2023-11-14T22:30:00Z", "--json")
    assert told.exit_code == 0, told.stderr
    summary = json.loads(told.stdout)
    assert summary["ledger"]["containers"]["data"]["sent"] == 2600
    run = json.loads((Path(summary["folder"]) / "run" / "run.json").read_text())
    assert "replay_lag_max_ms" in json.dumps(run), "it was replayed in time"


def test_what_is_wrong_has_its_exit_code(penstock: Penstock, trades: Path) -> None:
    told = penstock("replay", "nowhere.csv")
    assert told.exit_code == 2 and "nowhere.csv: expected a file or folder, found none" in told.stderr
    told = penstock("replay", trades, "--records", "trades")
    assert told.exit_code == 2 and "expected kinds out of trade, quote" in told.stderr
    told = penstock("replay", trades, "--from", "yesterday")
    assert told.exit_code == 2 and "expected a time such as '2024-05-01T12:00:00Z'" in told.stderr
    for option in ("--from", "--until"):
        for time in ("", "1723161254087896568", "2024-13-01"):
            told = penstock("replay", trades, option, time)
            assert told.exit_code == 2, (option, time)
            assert (
                f"Invalid value for '{option}': expected a time such as" in told.stderr and f"'{time}'" in told.stderr
            )
    for speed in ("0", "-1", "fast", "nan", "inf"):
        told = penstock("replay", trades, "--speed", speed)
        assert told.exit_code == 2 and f"expected max or a number above 0, found '{speed}'" in told.stderr


def test_the_speed_may_be_said_as_a_configuration_has_it(penstock: Penstock, trades: Path) -> None:
    told = penstock("replay", trades, "--speed", "max")
    assert told.exit_code == 0 and told.stdout.splitlines()[-1] == "3,600 rows"
    Path("slow.yaml").write_text(
        "name: slow\ncontainers:\n  data: {type: replay, path: trades.csv, clock: {speed: 0.0001}}\n"
        "  bars: {type: bars, inputs: [data], every: 1m}\n"
    )
    told = penstock("replay", "slow.yaml", "--speed", "max", "--json")
    assert json.loads(told.stdout)["ledger"]["containers"]["data"]["sent"] == 3600, "or it would take a year"


def test_keys_are_told_apart_whatever_arrives_together() -> None:
    assert keys_in(b" n\x1b[Cs\x1bOC+q") == [" ", "n", "right", "s", "right", "+", "q"]
    assert keys_in(b"a\x1b[15~b") == ["a"]


def test_the_board_keeps_the_last_of_each_instrument() -> None:
    board = Board()
    schema = pa.schema([("instrument_id", pa.utf8()), ("price", pa.decimal64(18, 2))], {"record": "trade"})
    rows = {"instrument_id": ["A", "B", "A"], "price": ["1.50", "2.00", "3.00"]}
    board.take(Batch(pa.RecordBatch.from_arrays(
        [pa.array(rows["instrument_id"]), pa.array(rows["price"]).cast(pa.decimal64(18, 2))], schema=schema
    )))  # fmt: skip
    deltas = schema.with_metadata({"record": "book_delta"})
    board.take(
        Batch(pa.RecordBatch.from_arrays([pa.array(["B"]), pa.array(["9"]).cast(pa.decimal64(18, 2))], schema=deltas))
    )
    told = {name: (latest.rows, latest.values) for name, latest in board.instruments.items()}
    assert told == {"A": (2, {"price": "3"}), "B": (2, {"price": "2"})} and board.rows == 4


# -- on a terminal ---------------------------------------------------------------------------------------------------


class Terminal:
    """The program at work on a terminal of its own."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self.master, self.process = master, process
        self.seen = ""

    def until(self, pattern: str) -> str:
        """Read what it draws until that is in what came since the last time."""
        while not (found := re.search(pattern, self.seen)):
            ready, _, _ = select.select([self.master], [], [], SECONDS)
            assert ready, f"expected {pattern!r}, found {self.seen[-500:]!r}"
            try:
                data = os.read(self.master, 65_536)
            except OSError:
                data = b""
            assert data, f"expected {pattern!r}, found the end after {self.seen[-500:]!r}"
            self.seen += data.decode(errors="replace")
        self.seen = self.seen[found.end() :]
        return found.group()

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def ended(self) -> int:
        """Its exit code."""
        while select.select([self.master], [], [], 0)[0] or self.process.poll() is None:
            try:
                if not select.select([self.master], [], [], 0.1)[0]:
                    continue
                if not os.read(self.master, 65_536):
                    break
            except OSError:
                break
        return self.process.wait(SECONDS)


@contextmanager
def on_a_terminal(folder: Path, *words: str) -> Iterator[tuple[Terminal, Callable[[], Any]]]:
    master, slave = pty.openpty()
    try:
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
        environment.pop("NO_COLOR", None)
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "replay", *words], cwd=folder, env=environment, stdin=slave,
            stdout=slave, stderr=slave, start_new_session=True,
        )  # fmt: skip
        try:
            yield Terminal(master, process), lambda: termios.tcgetattr(slave)
        finally:
            process.kill()
            process.wait()
    finally:
        os.close(master)
        os.close(slave)


def test_keys_steer_it_and_the_terminal_is_as_it_was(trades: Path) -> None:
    with on_a_terminal(trades.parent, trades.name, "--speed", "2") as (terminal, settings):
        before = settings()
        terminal.until(r"running, 2023-11-14T22:")
        assert settings() != before
        terminal.until("A.DEMO")
        terminal.press("+")
        terminal.until(", 4x,")
        terminal.press(" ")
        terminal.until("paused")
        terminal.press("s")
        rows = int(re.findall(r"(\d+) rows,", terminal.until(r"paused, [^,]*, 4x, \d+ rows,"))[0])
        terminal.press("n")
        more = "|".join(str(rows + step) for step in (1, 2, 3))  # what was drawn first may lie a step or two behind
        terminal.until(rf"paused, [^,]*, 4x, ({more}) rows,")
        terminal.press("q")
        assert terminal.ended() == 0
        assert settings() == before


def test_ctrl_c_ends_it_with_130_and_the_terminal_is_as_it_was(trades: Path) -> None:
    with on_a_terminal(trades.parent, trades.name, "--speed", "2") as (terminal, settings):
        before = settings()
        terminal.until("A.DEMO")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.ended() == 130
        assert settings() == before
