"""Structured logs on stderr: one line per record, for people or as JSON."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class StderrHandler(logging.Handler):
    """Writes to whatever `sys.stderr` is now, so that a live display may stand in for it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            pass  # stderr has gone; there is nobody left to tell


class TextFormatter(logging.Formatter):
    """`12:34:56 warning penstock.cli: message`."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        return f"{at} {record.levelname.lower()} {record.name}: {record.message}"


class JsonFormatter(logging.Formatter):
    """One JSON object per record: ts, level, logger, message, and whatever was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in record.__dict__.items() if name not in _OWN}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


@contextmanager
def logging_to_stderr(style: Literal["text", "json"], level: str) -> Iterator[None]:
    """Log to stderr within; afterwards the root logger is as it was."""
    root = logging.getLogger()
    handler = StderrHandler()
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    before = root.level
    root.addHandler(handler)
    root.setLevel(level.upper())
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
