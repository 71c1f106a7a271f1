"""`penstock replay PATH`: plays a recording as if it happened now: to your eyes, to a configuration, or to others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal

import click
import msgspec

from pipeline.registry import Registry

from . import INTERRUPTED
from .logs import logging_to_stderr
from .options import DEBUG, RunOptions, moment
from .replaying import replayed
from .working import carried_out, shown, work_of


def _speed(context: click.Context, parameter: click.Parameter, text: str | None) -> float | str | None:
    """As `clock: {speed: ...}` of a configuration has it."""
    from pipeline.timeline import checked_speed

    try:
        return text if text is None or text == "max" else checked_speed(float(text))
    except ValueError:
        raise click.BadParameter(f"expected max or a number above 0, found {text!r}") from None


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH [PATH ...]")
@click.option("--serve", is_flag=True, help="Speak the protocol of whoever it was recorded from, on a port.")
@click.option(
    "--speed",
    callback=_speed,
    metavar="N",
    help="N times real time, such as 50; max, or without it: as fast as it is taken.",
)
@moment("--from", "begin", help="Begin there, such as 2024-05-01T12:00:00Z, with books as they stood.")
@moment("--until", help="End before this time.")
@click.option("--records", metavar="KIND,KIND", help="Kinds of record that are wanted, such as trade,quote.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=0, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--faults", type=click.Path(path_type=Path), metavar="FILE", help="YAML of what goes wrong, and where.")
@click.option("--venue", metavar="NAME", help="Whose recording it is; found from what is in it.")
@click.option(
    "--wait-for",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="Time begins when so many clients have subscribed.",
)
@click.option("--loop", is_flag=True, help="Begin again at the end.")
@click.option("--json", "as_json", is_flag=True, help="Print rows, or what was done, as JSON, and nothing else.")
@click.option("--quiet", is_flag=True, help="No progress, nor where it serves; only what was done.")
@DEBUG
@click.pass_context
def replay(
    ctx: click.Context,
    paths: tuple[Path, ...],
    serve: bool,
    speed: float | Literal["max"] | None,
    begin: str | None,
    until: str | None,
    records: str | None,
    host: str,
    port: int,
    faults: Path | None,
    venue: str | None,
    wait_for: int,
    loop: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Play a recording as if it happened now.

    PATH is a capture, a recording or any table `replay` reads; several are one. On a terminal the market is shown as a
    table, and keys steer: space pauses and goes on, n or the right arrow steps by a row, s by a second, + and - change
    the speed, q ends it. Elsewhere lines tell how far it is, and --json prints every row.

    PATH may be a configuration, too (.yaml): it is run with its feeds at that speed, from and until those times.

    With --serve a capture's streams and requests are at a port of this machine, where clients of the venue connect
    unchanged. Time begins when the first has subscribed. Ctrl-C ends it.
    """
    times = None if speed == "max" else speed
    if not serve:
        chosen = {
            "clock": None if speed is None else {"speed": speed},
            "begin": begin,
            "records": None if records is None else [kind.strip() for kind in records.split(",")],
            "venue": venue,
        }
        settings = {name: value for name, value in chosen.items() if value is not None}
        if len(paths) == 1 and paths[0].suffix in (".yaml", ".yml"):
            _run(paths[0], settings, until, as_json, quiet)
            return
        feed = {"type": "replay", "path": [str(path) for path in paths], **settings}
        with logging_to_stderr("text", "warning"):
            if replayed(feed, times, until, as_json, quiet):
                ctx.exit(INTERRUPTED)
        return
    with logging_to_stderr("text", "warning" if quiet else "info"):
        done, stopped = asyncio.run(
            carried_out(
                work_of("serve"), quiet, paths=paths, host=host, port=port, speed=times, faults=faults, venue=venue,
                wait_for=wait_for, loop=loop,
            )
        )  # fmt: skip
    shown(done, as_json)
    if stopped:
        ctx.exit(INTERRUPTED)


def _run(config: Path, settings: dict[str, Any], until: str | None, as_json: bool, quiet: bool) -> None:
    """Run a configuration with these settings for all its feeds that have them."""
    from pipeline.config import load_config
    from pipeline.config.feed_path import owners_of

    from .run import carry_out

    loaded = load_config(config, registry=Registry.installed())
    overrides = [
        f"containers.{name}.{key}={value if isinstance(value, str) else msgspec.json.encode(value).decode()}"
        for key, value in settings.items()
        for name in owners_of(loaded, key)
    ]
    carry_out(
        config,
        RunOptions(
            data=None, overrides=tuple(overrides), until=until, limit=None, output=None, as_json=as_json, force=True,
            resume=False, repair=False, checkpoint=None, quiet=quiet, log_format="text", log_level="info",
            drain_seconds=30.0,
        ),
    )  # fmt: skip
