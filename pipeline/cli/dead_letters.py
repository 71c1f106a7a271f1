"""`penstock dead-letters DIR`: the rows that containers could not work on, and giving them to those again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

import click
import msgspec
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.examination.places import locate
from pipeline.folder import no_folder
from pipeline.mending.dead_letters import DeadLetter, DeadLetters, phases_with_letters
from pipeline.mending.replaying import replay
from pipeline.service import Pipeline

from .conduct import Conducted
from .figures import printable, rows_said
from .options import ReadingOptions, reading
from .run import perform
from .tables import report_table
from .trouble import FAILED

MOST_SHOWN = 20
WIDEST = 160
"""Characters of a row, or of an error, that the table shows."""


@click.command("dead-letters")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--phase", metavar="NAME", help="Only of this phase.")
@click.option("--container", metavar="NAME", help="Only of this container.")
@click.option("--limit", type=click.IntRange(min=0), default=MOST_SHOWN, show_default=True, help="Most shown; 0: all.")
@click.option("--json", "as_json", is_flag=True, help="Print them, or a replay's summary, as JSON on stdout.")
@click.option("--replay", "config", type=click.Path(path_type=Path), metavar="CONFIG", help="Give them again.")
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Where the replay's results go.")
@reading
def dead_letters(
    folder: Path,
    phase: str | None,
    container: str | None,
    limit: int,
    as_json: bool,
    config: Path | None,
    output: Path | None,
    **options: Unpack[ReadingOptions],
) -> None:
    """List rows that failed in spite of all retries and were put aside, or give them to their containers again.

    DIR is results/<name> (its latest run), a run's folder or a phase's; it may be in use. The offset of a row is the
    container it came from and its number in what that has sent.

    With --replay CONFIG (the same configuration, with what was wrong put right) each container with dead letters runs
    again with what reads from it, in phases called PHASE.CONTAINER, on these rows alone: all feeds are silent. Results
    go to results/<name>-replay/; those of the run are not touched, and the dead letters stay where they are. Exit code
    1 where not one of them goes through this time.
    """
    phases = _phases(folder, phase)
    if config is not None:
        pipeline = Pipeline.from_yaml(config, data=options["data"], overrides=options["overrides"])
        again = replay(pipeline, phases, container, output=output)
        done = perform(
            again,
            {
                **options, "until": None, "limit": None, "output": output, "as_json": as_json, "force": True,
                "resume": False, "repair": False, "checkpoint": None,
                "quiet": False, "log_format": "text", "log_level": "info", "drain_seconds": 30.0,
            },
        )  # fmt: skip
        _tell_mended(done, as_json)
        return
    _list(folder, phases, container, limit, as_json)


def _tell_mended(done: Conducted, as_json: bool) -> None:
    """How many rows went through this time; exit code 1 where none did."""
    given = dead = 0
    for phase, summary in done.summaries.items():
        books = summary.ledger.containers[phase.rpartition(".")[2]]
        given += books.received
        dead += books.dead
    again = f"; {rows_said(dead)} died again and are dead letters of the replay" if dead else ""
    click.echo(f"{'mended':<13} {rows_said(given - dead)} of {rows_said(given)} rows{again}", err=as_json)
    if dead == given:
        click.get_current_context().exit(FAILED)


def _phases(folder: Path, phase: str | None) -> list[Path]:
    if not folder.exists():
        raise no_folder(folder)
    found = phases_with_letters(folder)
    if not found:
        locate(folder)  # of a folder that is none of Penstock's nobody may think that all was well
    if phase is None:
        return found
    chosen = [path for path in found if path.name == phase]
    if found and not chosen:
        raise InputError(f"phase '{phase}' has no dead letters; there are some in {', '.join(p.name for p in found)}")
    return chosen


def _list(folder: Path, phases: Sequence[Path], container: str | None, limit: int, as_json: bool) -> None:
    shown: list[dict[str, Any]] = []
    letters = rows = unread = 0
    for phase in phases:
        reader = DeadLetters(phase, container)
        for letter in reader:
            letters += 1
            rows += letter.rows
            if not limit or len(shown) < limit or as_json:
                shown.append(_told(phase.name, letter) if as_json else _row(phase.name, letter, len(phases) > 1))
        unread += reader.unread_bytes
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(shown[: limit or None], enc_hook=str), indent=2).decode())
    elif shown:
        click.echo(report_table(shown, f"{rows_said(rows)} rows in {', '.join(map(str, phases))}"))
        if letters > len(shown):
            click.echo(f"and {rows_said(letters - len(shown))} more; --limit 0 shows all")
    else:
        click.echo(f"no dead letters{f' of {container}' if container else ''} in {folder}")
    if unread:
        click.echo(f"{unread:,} bytes behind them cannot be read: they are being written now, or damaged", err=True)


def _row(phase: str, letter: DeadLetter, with_phase: bool) -> dict[str, Any]:
    """One line of the table."""
    value = plain_value(letter.value)
    first = value[0] if isinstance(value, list) and value else value
    text = ", ".join(f"{key}={item}" for key, item in first.items()) if isinstance(first, dict) else str(first)
    more = f" (and {letter.rows - 1} more)" if letter.rows > 1 else ""
    return {
        **({"phase": phase} if with_phase else {}),
        "container": letter.container,
        "offset": _offset(letter),
        "attempts": letter.attempts,
        "time": datetime.fromtimestamp(letter.time_ns // 10**9, UTC),
        "error": _short(letter.error),
        "row": _short(text) + more,
    }


def _offset(letter: DeadLetter) -> str:
    if letter.batch_id is not None:
        return f"flush {letter.batch_id[1]}-{letter.batch_id[2]}"
    return f"{letter.source}:{letter.first_seq}"


def _short(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= WIDEST else line[: WIDEST - 3] + "..."


def _told(phase: str, letter: DeadLetter) -> dict[str, Any]:
    """All of a letter, as plain data."""
    fields = {name: getattr(letter, name) for name in letter.__struct_fields__ if name != "value"}
    return {"phase": phase, **fields, "value": plain_value(letter.value)}


def plain_value(value: Any) -> Any:
    """A letter's value as plain data: rows as dicts, times as ISO text."""
    if isinstance(value, pa.RecordBatch):
        value = pa.Table.from_batches([value])
    if isinstance(value, pa.Table):
        columns = [list(_plain_column(column)) for column in value.columns]
        return [dict(zip(value.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return value


def _plain_column(column: pa.ChunkedArray) -> Iterator[Any]:
    if pa.types.is_temporal(column.type) or pa.types.is_decimal(column.type):
        column = column.cast(pa.utf8())
    for value in column.to_pylist():
        yield value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
