"""A recording of several kinds and many files is replayed as the captures it was made from, a lane for each series."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from pipeline import Context
from pipeline.cli.program import penstock
from stages.feeds.layout import find_series
from stages.feeds.replay import Replay
from stages.recording.stream import KEYFRAME

BITMEX = ("cryptofeed/BITMEX.0", "cryptofeed/BITMEX.ws.1.0")


def rows_given(recipe: Replay) -> dict[str, list[Any]]:
    """Rows by kind, without the heads of book files: in the order given, those of one message by instrument."""
    found: dict[str, list[Any]] = {}
    for batches in recipe.build(Context()).batches():
        for batch in batches if isinstance(batches, tuple) else (batches,):
            rows = batch.columns.to_pylist()
            found.setdefault(batch.record or "", []).extend(row for row in rows if row["source_id"] != KEYFRAME)
    for rows in found.values():
        rows.sort(key=lambda row: (row["ts_recv"].value, row["ingest_seq"], row["instrument_id"] or ""))
    return found


def series_in(folder: Path) -> Iterator[tuple[str, str]]:
    for file in folder.rglob("*.parquet"):
        folders = file.relative_to(folder).parts[:-2]
        yield folders[0], folders[-1]


def test_it_gives_the_rows_of_its_captures_whatever_kinds_they_are_and_however_files_rolled(
    recordings: Path, tmp_path: Path
) -> None:
    """Instruments lie a folder less deep; and files of a session that rolled are read one after the other."""
    captures = [str(recordings / name) for name in BITMEX]
    done = CliRunner().invoke(
        penstock, ["ingest", *captures, "--output", str(tmp_path / "one"), "--set", "roll_every=10s", "--quiet"]
    )
    assert done.exit_code == 0, done.output
    replayed, direct = Replay(path=str(tmp_path / "one")), Replay(path=tuple(captures))
    given = rows_given(replayed)
    assert given == rows_given(direct) and {"instrument", "book_delta", "trade"} < set(given)
    lanes, files = find_series([tmp_path / "one"]), list((tmp_path / "one").rglob("*.parquet"))
    assert len(lanes) == len(set(series_in(tmp_path / "one"))) < len(files), "no lane for each file that rolled"
    assert sorted(file.path for found in lanes for file in found.files) == sorted(files)
