"""What the program's command `ingest` does, and what is said of recordings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from pipeline import ConfigError, DiskFull, Problem, Recipe, UnderWay, WorkDone, bytes_said, parse_duration, rows_said
from stages.interpreting import Interpreting

from .ingesting import ingest
from .recorder import Figures
from .seen import moment
from .settings import Recording, Rolling


async def ingest_work(
    under_way: UnderWay,
    *,
    paths: Sequence[Path],
    folder: Path,
    venue: str | None,
    settings: Sequence[str],
    repair: bool,
) -> WorkDone:
    """`penstock ingest`."""

    def watch(figures: Figures, skipped: int) -> None:
        under_way.tell(lambda: said(figures) + (f", {skipped:,} were there" if skipped else ""))

    with advised():
        done = await ingest(
            paths, folder, settings_of(settings), venue=venue, watch=watch, stopped=under_way.stop.is_set, repair=repair
        )
    words = [
        *closing(done.figures),
        ("were there", f"{done.skipped:,} messages"),
        *((name, quality_said(found)) for name, found in done.quality.items()),
        *(("wrong lines", f"{times:,}: {reason}") for reason, times in sorted(done.wrong.items())),
        *(("left out", f"{name}: of no known venue") for name in done.left_out),
        ("recording", str(folder)),
    ]
    return WorkDone(words, msgspec.to_builtins(done))


@contextmanager
def advised() -> Iterator[None]:
    """A disk without room is no end of a recording: say how it goes on."""
    try:
        yield
    except DiskFull as error:
        raise DiskFull(
            f"{error}; nothing that was recorded is lost: make room, and the same command goes on"
        ) from error


def settings_of(words: Sequence[str]) -> Recording:
    """Settings given as `roll_every=1d`, `price_scale=4`. Raises `ConfigError`."""
    given: dict[type[Recipe], dict[str, Any]] = {Rolling: {}, Interpreting: {}}
    problems = []
    for word in words:
        name, equals, value = word.partition("=")
        whose = next((recipe for recipe in given if name in recipe.__struct_fields__), None)
        if not equals or whose is None:
            known = ", ".join((*Rolling.__struct_fields__, *Interpreting.__struct_fields__))
            problems.append(Problem("--set", "expected a setting of recordings such as roll_every=1d", word, known))
            continue
        given[whose][name] = value.split(",") if name == "records" else value
        try:
            _check(name, msgspec.convert({name: given[whose][name]}, whose, strict=False))
        except (msgspec.ValidationError, ValueError) as error:
            problems.append(Problem(name, str(error).removeprefix(f"{name}: ").partition(", found")[0], value))
    if problems:
        raise ConfigError(problems)
    interpreting = msgspec.convert(given[Interpreting], Interpreting, strict=False)
    rolling = msgspec.convert(given[Rolling], Rolling, strict=False)
    return Recording(interpreting=interpreting, **msgspec.structs.asdict(rolling))


def _check(name: str, recipe: Recipe) -> None:
    """Durations are texts until they are used."""
    if name in ("stale_after", "snapshot_every"):
        parse_duration(getattr(recipe, name))


def said(figures: Figures) -> str:
    """How far a recording is, in one line."""
    return (
        f"{rows_said(figures.messages)} messages, {rows_said(figures.rows)} rows, {bytes_said(figures.raw_bytes)} raw, "
        f"{figures.files:,} files, {rows_said(figures.waiting_rows)} rows wait, at {moment(figures.newest_ts)}"
    )


def closing(figures: Figures) -> Iterator[tuple[str, str]]:
    """What was done, line by line."""
    yield "messages", rows_said(figures.messages)
    if figures.again:
        yield "again", f"{figures.again:,} messages that were in no file yet were interpreted again"
    yield "rows", rows_said(figures.rows)
    yield "raw", bytes_said(figures.raw_bytes)
    yield "files", f"{figures.files:,}, {bytes_said(figures.file_bytes)}"
    if figures.expired_segments:
        yield "expired", f"{figures.expired_segments:,} segments of raw messages"


def quality_said(found: Mapping[str, Any]) -> str:
    """Rows and quality events of one venue, since the folder was made."""
    rows = ", ".join(f"{rows_said(count)} {kind}" for kind, count in found["rows"].items())
    events = ", ".join(f"{count:,} {kind}" for kind, count in found["quality"].items())
    return f"{rows or 'no rows'}; {events or 'nothing wrong'}"
