from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from pipeline.cli.logs import TextFormatter
from pipeline.cli.tables import report_table, text_table

Penstock = Callable[..., Result]

REPORT = [
    {"rank": 1, "portfolio": "portfolio_0001", "parameters": "fast=[5]", "total_return": 0.5, "sharpe": 1.5},
    {"rank": 2, "portfolio": "portfolio_0000", "parameters": "", "total_return": None, "sharpe": None},
]


def test_a_report_shows_every_row_with_percents_and_dashes() -> None:
    lines = report_table(REPORT, "execution").splitlines()
    assert lines[0] == "execution"
    assert lines[1].split() == ["rank", "portfolio", "parameters", "total_return", "sharpe"]
    assert lines[3].split() == ["1", "portfolio_0001", "fast=[5]", "50.00%", "1.500"]
    assert lines[4].split() == ["2", "portfolio_0000", "-", "-"]


def test_words_in_brackets_are_text_and_no_markup() -> None:
    assert "[bold red]x[/]" in text_table(["name"], [["[bold red]x[/]"]])


def test_away_from_a_terminal_nothing_is_folded_coloured_or_padded() -> None:
    text = text_table(["name"], [["x" * 500], ["y"]])
    assert "x" * 500 in text and "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_on_a_narrow_terminal_columns_are_left_out_from_the_right_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    assert "total_return" in report_table(REPORT) and "not shown" not in report_table(REPORT)
    monkeypatch.setenv("COLUMNS", "42")
    lines = report_table(REPORT).splitlines()
    assert lines[0].strip() == "total_" and lines[1].split() == ["rank", "portfolio", "parameters", "return"]
    assert lines[-1] == "not shown for want of width: sharpe"
    assert max(map(len, lines)) <= 42


def test_columns_that_only_some_rows_have_are_shown() -> None:
    assert report_table([{"a": 1}, {"b": 2.0}]).splitlines()[-1].split() == ["-", "2.000"]


STEERING = "\x1b[31mred\x1b[0m\nnext \u202e \x9b1m é 漢\xa0z"
SHOWN = "\\x1b[31mred\\x1b[0m\\nnext \\u202e \\x9b1m é 漢\xa0z"


def test_no_value_steers_the_terminal_or_breaks_a_line() -> None:
    for text in (report_table([{"s": STEERING}]), text_table(["s"], [[STEERING]])):
        assert text.split("\n")[2:] == [SHOWN]


def test_no_value_steers_the_terminal_from_an_error_or_a_log(penstock: Penstock, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text('containers: {data: {type: "a\\e[31m\\nb"}}\n')
    told = penstock("check", "a.yaml")
    assert told.exit_code == 2 and "\\x1b[31m" in told.stderr and "\x1b" not in told.stderr
    record = logging.LogRecord("penstock", logging.WARNING, "", 0, STEERING, None, None)
    assert "\x1b" not in TextFormatter().format(record)
