"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar

import click

from pipeline.errors import InputError

Command = TypeVar("Command", bound=Callable[..., Any])
_DEBUG = "penstock.debug"


class ReadingOptions(TypedDict):
    """Options of every command that reads a configuration."""

    data: str | None
    overrides: tuple[str, ...]


class RunOptions(ReadingOptions):
    """Options of commands that run."""

    until: str | None
    limit: int | None
    output: Path | None
    as_json: bool
    force: bool
    resume: bool
    repair: bool
    checkpoint: str | None
    quiet: bool
    log_format: Literal["text", "json"]
    log_level: str
    drain_seconds: float


CONFIG = click.argument("config", type=click.Path(path_type=Path), metavar="CONFIG")


def reading(command: Command) -> Command:
    """`--data`, `--set`, `--debug`."""
    return _with(
        command,
        click.option("--data", metavar="PATH", help="Recording to read: gives the path to the feed."),
        click.option("--set", "overrides", metavar="A.B=C", multiple=True, help="Change one setting; repeatable."),
        DEBUG,
    )


def running(command: Command) -> Command:
    """What `run` and `demo` take beside their configuration."""
    return _with(
        command,
        moment("--until", help="End feeds before this time, such as 2024-05-01T12:00:00Z."),
        click.option("--limit", type=click.IntRange(min=1), metavar="ROWS", help="End each feed after so many rows."),
        click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Where runs live."),
        click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, and nothing else, on stdout."),
        click.option("--force", is_flag=True, help="Run again although the run is complete."),
        click.option("--repair", is_flag=True, help="Open a folder whose manifest is damaged, with what can be read."),
        click.option("--resume", is_flag=True, help="Go on with a run that was stopped, from its last checkpoint."),
        click.option(
            "--checkpoint",
            metavar="TIME",
            callback=_duration,
            help="How often what --resume needs is kept: 30s.",
        ),
        click.option("--quiet", is_flag=True, help="No progress; only the results."),
        click.option("--log-format", type=click.Choice(["text", "json"]), default="text", help="Of logs on stderr."),
        click.option(
            "--log-level",
            type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
            default="info",
            help="Least level that is logged.",
        ),
        click.option(
            "--drain-seconds",
            type=click.FloatRange(min=0, min_open=True),
            default=30.0,
            show_default=True,
            help="How long a first Ctrl-C waits for rows under way.",
        ),
    )


def _moment(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """A time as it was given, once it is one."""
    from pipeline.windows import nanoseconds

    if text is not None:
        try:
            nanoseconds(text)
        except InputError as error:
            raise click.BadParameter(str(error)) from error
    return text


def moment(*names: str, help: str) -> Callable[[Command], Command]:
    """An option that is a time."""
    return click.option(*names, metavar="TIME", callback=_moment, help=help)


def _duration(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """Seconds, as text."""
    from pipeline.durations import parse_duration

    if text is None:
        return None
    try:
        nanoseconds = parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if not nanoseconds:
        raise click.BadParameter("expected a duration longer than zero, such as 30s")
    return f"{nanoseconds / 1e9:.9f}"


def debugging() -> bool:
    """Whether the command that runs was given `--debug`."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.find_root().meta.get(_DEBUG))


def _remember(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.find_root().meta[_DEBUG] = value


DEBUG = click.option(
    "--debug", is_flag=True, expose_value=False, callback=_remember, help="Show the traceback of an error."
)


def _with(command: Command, *options: Callable[[Command], Command]) -> Command:
    return reduce(lambda decorated, option: option(decorated), reversed(options), command)
