from __future__ import annotations

import json
import logging

import pytest

from pipeline.cli.logs import logging_to_stderr

log = logging.getLogger("penstock.test")


def test_text_is_one_line_with_level_and_name(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr("text", "info"):
        log.info("read %d rows", 3)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.endswith(" info penstock.test: read 3 rows\n")


def test_json_has_one_object_per_line_with_what_was_given_as_extra(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr("json", "info"):
        log.info("read", extra={"rows": 3})
        try:
            raise ValueError("no")
        except ValueError:
            log.exception("failed")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first["message"] == "read" and first["rows"] == 3 and first["level"] == "info"
    assert set(first) == {"ts", "level", "logger", "message", "rows"}
    assert "ValueError: no" in second["error"]


def test_less_than_the_level_is_not_logged_and_nothing_is_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:]
    with logging_to_stderr("text", "warning"):
        log.info("not this")
    log.warning("nor this")
    assert capsys.readouterr().err == ""
    assert logging.getLogger().handlers == before
