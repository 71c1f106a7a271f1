"""`penstock inspect DIR`: what a folder holds, and who holds it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from pipeline.examination.inspection import CommittedFile, Inspection
from pipeline.examination.inspection import inspect as look
from pipeline.recording import CONTAINER as RECORDING

from .figures import bytes_said, printable
from .looking import labelled, named, place_of
from .options import DEBUG
from .tables import report_table

MOST_NAMED = 5


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON on stdout.")
@DEBUG
def inspect(folder: Path, as_json: bool) -> None:
    """Show what is committed in a folder, by whom, and how large it is.

    DIR is results/<name> (its latest run), a run's folder, a phase's, a recording, or a folder of open_stores; it may
    be in use. Nothing in it is changed. Whether files are as they were written `penstock verify` finds out.
    """
    found = look(place_of(folder))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    click.echo(labelled(list(_head(found))))
    for title, rows in _tables(found):
        if rows:
            click.echo("\n" + report_table(rows, title))
    lines = list(_rest(found))
    if lines:
        click.echo("\n" + "\n".join(printable(line) for line in lines))


def _head(found: Inspection) -> Iterator[tuple[str, str]]:
    yield "folder", named(found.folder, found.phase, found.why)
    yield "held by", "nobody" if found.held_by is None else str(found.held_by)
    if found.format is None:
        yield "manifest", "none; from before there was one, or damaged: `penstock verify` says"
        return
    yield "format", f"{found.format}, epoch {found.epoch}"
    said = f"{found.manifest}, {found.manifest_lines:,} lines, {bytes_said(found.manifest_bytes)}"
    if found.damage:
        said += f"; DAMAGED: {found.damage}"
    elif found.manifest_tail_bytes:
        held = found.held_by is not None and found.held_by.holds
        said += f"; {found.manifest_tail_bytes:,} bytes behind them " + (
            "are being written" if held else "do not count: the next run cuts them off"
        )
    yield "manifest", said


def _tables(found: Inspection) -> Iterator[tuple[str, Sequence[dict[str, Any]]]]:
    yield (
        "phases",
        [
            {
                "phase": phase.phase,
                "state": phase.state,
                "files": phase.files,
                "size": bytes_said(phase.num_bytes),
                "dead_letters": phase.dead_letters,
                "checkpoint": _checkpoint(phase.checkpoint_rows, phase.checkpoint, phase.offsets),
            }
            for phase in found.phases
        ],
    )
    yield "recorded files", list(_recorded(found))
    yield (
        "committed files",
        [
            {
                "phase": file.phase,
                "container": file.container,
                "rows": file.rows,
                "bytes": file.num_bytes,
                "xxh3": file.xxh3,
                "file": file.file if file.there else f"{file.file} (GONE, or of another size)",
            }
            for file in sorted(found.files, key=lambda file: (file.phase or "", file.container or "", file.file))
            if file.phase != RECORDING or not file.there
        ],
    )
    yield (
        f"journal: {found.segments:,} segments, {bytes_said(found.journal_bytes)}",
        [
            {
                "container": share.container,
                "live_records": share.live_records,
                "live_bytes": share.live_bytes,
                "dead_records": share.dead_records,
                "dead_bytes": share.dead_bytes,
            }
            for share in found.journal
        ],
    )
    yield (
        f"quarantine: {len(found.quarantine):,} files, {_total(found)}",
        [{"file": kept.file, "bytes": kept.num_bytes, "why": kept.why} for kept in found.quarantine],
    )


def _recorded(found: Inspection) -> Iterator[dict[str, Any]]:
    """A recording has too many files to name each: how many there are below each folder."""
    groups: dict[str, list[CommittedFile]] = {}
    for file in found.files:
        if file.phase == RECORDING:
            groups.setdefault(file.file.partition("/")[0], []).append(file)
    for folder, files in sorted(groups.items()):
        yield {
            "folder": folder,
            "files": len(files),
            "rows": sum(file.rows or 0 for file in files),
            "size": bytes_said(sum(file.num_bytes or 0 for file in files)),
        }


def _checkpoint(rows: int | None, file: str | None, offsets: dict[str, int]) -> str | None:
    if file is None:
        return None
    feeds = ", ".join(f"{name}: {sent:,}" for name, sent in sorted(offsets.items()))
    return f"{Path(file).name}, {rows or 0:,} rows" + (f" ({feeds})" if feeds else "")


def _total(found: Inspection) -> str:
    return bytes_said(sum(kept.num_bytes for kept in found.quarantine))


def _rest(found: Inspection) -> Iterator[str]:
    if found.segments and not found.journal:
        yield f"journal: {found.segments:,} segments, {bytes_said(found.journal_bytes)}, without records"
    if found.journal_lost_bytes:
        yield f"{found.journal_lost_bytes:,} bytes of the journal are no whole records; `penstock verify` says where"
    if found.spill_bytes:
        yield f"{bytes_said(found.spill_bytes)} are spilled; they go with their process"
    if any(phase.dead_letters for phase in found.phases):
        yield f"dead letters are listed by: penstock dead-letters {found.folder}"
    if found.unlisted_files:
        names = ", ".join(found.unlisted[:MOST_NAMED]) + (", ..." if found.unlisted_files > MOST_NAMED else "")
        yield f"not in the manifest: {found.unlisted_files:,} files, {bytes_said(found.unlisted_bytes)} ({names})"
