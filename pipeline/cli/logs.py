"""Structured logs on stderr: one line per record, for people or as JSON."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from .figures import LINES, printable

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class StderrHandler(logging.Handler):
    """Writes to whatever `sys.stderr` is now, so that a live display may stand in for it."""

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr is None:  # closed before the program began
            return
        with suppress(OSError, ValueError):  # or gone since; there is nobody left to tell
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()


class TextFormatter(logging.Formatter):
    """`12:34:56 warning penstock.cli: message`."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        return f"{at} {record.levelname.lower()} {record.name}: {printable(record.message, LINES)}"


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


TALKATIVE = ("asyncio", "numba")
"""Libraries whose own debugging would drown everything else; they are heard from warnings up."""


@contextmanager
def logging_to_stderr(style: Literal["text", "json"], level: str) -> Iterator[None]:
    """Log to stderr within; afterwards all loggers are as they were."""
    root = logging.getLogger()
    levels = {logger: logger.level for logger in (root, *map(logging.getLogger, TALKATIVE))}
    handler = StderrHandler()
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root.addHandler(handler)
    for logger in levels:
        logger.setLevel(logging.WARNING)
    root.setLevel(level.upper())
    try:
        yield
    finally:
        root.removeHandler(handler)
        for logger, before in levels.items():
            logger.setLevel(before)
