"""`penstock verify DIR`: every byte of a folder held against its checksum."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from pipeline.examination.places import Place
from pipeline.examination.verification import bytes_to_verify
from pipeline.examination.verification import verify as read_all
from pipeline.examination.verified import Verified

from .figures import bytes_said, printable
from .looking import named, place_of
from .options import DEBUG
from .tables import is_terminal
from .trouble import FAILED


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON on stdout.")
@DEBUG
@click.pass_context
def verify(ctx: click.Context, folder: Path, as_json: bool) -> None:
    """Read a folder from end to end and say what is not as it was written.

    DIR is results/<name> (its latest run), a run's folder, a phase's, or a folder of open_stores; it may be in use.
    Nothing in it is changed. Exit code 1 where something is bad, 2 where the folder cannot be judged: it is none of
    Penstock's, or of a newer version.
    """
    done = _read(place_of(folder))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(done), indent=2).decode())
    else:
        for bad in done.bad:
            click.echo(printable(f"{bad.file}: expected {bad.expected}; found {bad.found}"))
            click.echo(printable(f"  try: {bad.try_}"))
        for note in done.notes:
            click.echo(printable(f"note: {note}"))
        click.echo(printable(_totals(done)))
    if done.bad:
        ctx.exit(FAILED)


def _read(place: Place) -> Verified:
    if not is_terminal(sys.stderr):
        return read_all(place)
    with click.progressbar(length=bytes_to_verify(place), label="verifying", file=sys.stderr) as bar:
        return read_all(place, bar.update)


def _totals(done: Verified) -> str:
    parts = [
        f"{done.files:,} files" + (f" ({done.without_checksum:,} by length only)" if done.without_checksum else "")
    ]
    parts.append(f"{done.lines:,} manifest lines")
    if done.segments:
        parts.append(f"{done.records:,} journal records in {done.segments:,} segments")
    if done.letters:
        parts.append(f"{done.letters:,} dead letters")
    read = f"{', '.join(parts)}, {bytes_said(done.num_bytes)}"
    where = named(done.folder, done.phase, done.why)
    if done.bad:
        return f"BAD: {len(done.bad):,} things in {where}; read were {read}"
    return f"ok: {where}: {read}"
