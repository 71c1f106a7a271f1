"""What a person is told when something goes wrong, and with which exit code the program ends."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from pipeline.errors import ConfigError, Interrupted, PenstockError, PhaseFailed

from . import INTERRUPTED
from .figures import LINES, printable
from .options import debugging

FAILED, BAD_CONFIGURATION = 1, 2


class RunFailed(Exception):
    """A run failed; `record` is what it wrote about itself, None where it wrote nothing."""

    def __init__(self, error: PenstockError, record: Path | None) -> None:
        super().__init__(str(error))
        self.error, self.record = error, record


@contextmanager
def told(ctx: click.Context) -> Iterator[None]:
    """Turn errors into sentences on stderr and an exit code."""
    try:
        with unless_unread():
            yield
    except ConfigError as error:
        _explain(error)
        for problem in error.problems:
            click.echo(printable(" ".join(str(problem).split("\n"))), err=True)
        ctx.exit(BAD_CONFIGURATION)
    except Interrupted as error:
        click.echo(printable(str(error), LINES), err=True)
        ctx.exit(INTERRUPTED)
    except RunFailed as failure:
        _explain(failure.error)
        click.echo(printable(f"error: {_sentences(failure)}", LINES), err=True)
        ctx.exit(FAILED)
    except PenstockError as error:
        _explain(error)
        click.echo(printable(f"error: {error}", LINES), err=True)
        ctx.exit(FAILED)
    except OSError as error:
        _explain(error)
        _print_into_nothing()
        click.echo(printable(f"error: {error}", LINES), err=True)
        ctx.exit(FAILED)
    except KeyboardInterrupt:
        ctx.exit(INTERRUPTED)


@contextmanager
def unless_unread() -> Iterator[None]:
    """A reader of stdout that has left, as `head` does, is no error; what is left to print goes nowhere."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        _print_into_nothing()


def _print_into_nothing() -> None:
    """What Python still holds for stdout must not fail once more at the very end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _sentences(failure: RunFailed) -> str:
    parts = [str(failure).rstrip(".")]
    if _is_surprising(failure.error) and not debugging():
        parts.append("Try --debug for the traceback")
    if failure.record is not None:
        parts.append(f"What was measured until then is in {failure.record}")
    return ". ".join(parts)


def _is_surprising(error: PenstockError) -> bool:
    """Whether the sentence alone may not be enough: somebody's code failed, not a file or a setting."""
    return isinstance(error, PhaseFailed) and (
        bool(error.failures) or not isinstance(error.__cause__, PenstockError | None)
    )


def _explain(error: BaseException) -> None:
    if debugging():
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
