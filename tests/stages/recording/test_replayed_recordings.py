"""A replay of a recording's files gives what a replay of its messages gives, row by row, in order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import MIDNIGHT, USDM, around_midnight, committed, messages_of

from pipeline import Context, InputError
from pipeline.storage.entries import Entry, decode_line, encode_line
from stages.feeds.merged import MergedFeed
from stages.feeds.replay import Replay
from stages.interpreting import Interpreting
from stages.messages import Messages
from stages.recording import Recording
from stages.recording.ingesting import ingest
from stages.recording.recorder import open_recorder
from stages.schemas import KEYFRAME, KINDS, schema_of
from stages.venues import Venue, venue_named

BITMEX = ("cryptofeed/BITMEX.ws.1.0",)


def rows(items: Iterable[Any]) -> dict[str, list[tuple[Any, ...]]]:
    found: dict[str, list[tuple[Any, ...]]] = {}
    for item in items:
        for batch in item if isinstance(item, tuple) else (item,):
            assert batch.record is not None
            told = zip(*[_plain(column) for column in batch.columns.columns], strict=True)
            found.setdefault(batch.record, []).extend(told)
    return found


def _plain(column: pa.Array) -> list[Any]:
    return (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()


def replayed(path: Path | str, **words: Any) -> dict[str, list[tuple[Any, ...]]]:
    return rows(Replay(path=str(path), **words).build(Context()).batches())


def same(found: dict[str, list[Any]], expected: dict[str, list[Any]]) -> None:
    assert found.keys() == expected.keys()
    for kind, wanted in expected.items():
        wrong = next((at for at, (a, b) in enumerate(zip(found[kind], wanted, strict=False)) if a != b), None)
        assert wrong is None, (kind, wrong, found[kind][wrong], wanted[wrong])
        assert len(found[kind]) == len(wanted), kind


async def recorded(folder: Path, messages: Messages, venue: Venue, **words: Any) -> None:
    async with open_recorder(folder, Recording(**words)) as recorder:
        await recorder.take(messages, venue)


async def test_files_that_rolled_often_replay_as_the_messages_do(recordings: Path, tmp_path: Path) -> None:
    messages = messages_of(recordings).slice(0, 500)
    await recorded(tmp_path, messages, USDM, roll_every="4s", interpreting=Interpreting(depth=5, quotes="both"))
    assert len(committed(tmp_path)) > 50
    expected = replayed(tmp_path, format="capture", depth=5, quotes="both", records=KINDS)
    same(replayed(tmp_path), expected)
    same(replayed(tmp_path, batch_rows=777), expected)
    one = next(iter((tmp_path / "trade").rglob("instrument=*")))
    names = {row[3] for row in replayed(one)["trade"]}
    assert len(names) == 1
    same(replayed(one), {"trade": [row for row in expected["trade"] if row[3] in names]})


async def test_rows_of_many_instruments_in_one_message_keep_their_order(recordings: Path, tmp_path: Path) -> None:
    """Trades of a real capture, those of several messages put into one, in turns."""
    found = [json.loads(each.payload) for each in messages_of(recordings, BITMEX) if b'"table":"trade"' in each.payload]
    trades = [row for each in found if each["action"] == "insert" for row in each["data"]]
    assert len({row["symbol"] for row in trades}) > 2
    trades = sorted(trades, key=lambda row: hash_of(row["trdMatchID"]))
    payloads = [
        json.dumps({"table": "trade", "action": "insert", "data": trades[at : at + 40]}).encode()
        for at in range(0, len(trades), 40)
    ]
    messages = Messages.of_payloads(payloads, [MIDNIGHT - len(payloads) // 2 + at for at in range(len(payloads))])
    venue = venue_named("bitmex")
    await recorded(tmp_path, messages, venue)
    expected = replayed(tmp_path, format="capture", records=KINDS)
    same(replayed(tmp_path), expected)
    told = [row[3] for row in expected["trade"]]
    assert len(told) == len(trades) and sum(a != b for a, b in pairwise(told)) > len(payloads)
    for path in committed(tmp_path):
        assert pq.read_schema(path) == schema_of(path.relative_to(tmp_path).parts[0], venue.scales)


def hash_of(text: str) -> bytes:
    return hashlib.blake2b(text.encode()).digest()


async def test_days_restarts_and_a_backfill_that_overlaps_leave_no_seam(recordings: Path, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    days = around_midnight(recordings, tmp_path / "c", 600, 400)
    await ingest(days[:1], folder, Recording(roll_every="20s"))
    await ingest(days, folder, Recording(roll_every="20s"))
    for _ in range(2):
        again = await ingest(days, folder, Recording(roll_every="20s"))
        assert again.figures.messages == 0 and again.skipped == 1000
    assert len({path.parent.name for path in committed(folder) if "book_delta" in path.parts}) == 2
    same(replayed(folder), replayed(folder, format="capture", records=KINDS))
    same(
        replayed(folder),
        rows(Replay(path=str(tmp_path / "c"), format="capture", records=KINDS).build(Context()).batches()),
    )


@pytest.mark.parametrize("share", [0.0, 0.7])
async def test_a_recording_begun_in_the_middle_is_its_messages_begun_there(
    recordings: Path, tmp_path: Path, share: float
) -> None:
    """Told by the last files before: books first, whole, then what came from there on, and no head of a file."""
    messages = messages_of(recordings).slice(0, 600)
    await recorded(tmp_path, messages, USDM, roll_every="2s")
    first, last = int(messages.ts_recv[0]), int(messages.ts_recv[-1])
    ts_ns = first + int((last - first) * share)
    raw = Replay(path=str(tmp_path), format="capture", records=KINDS).build(Context())
    expected = rows(raw.seek(ts_ns))
    feed = Replay(path=str(tmp_path)).build(Context())
    assert isinstance(feed, MergedFeed)
    same(rows(feed.seek(ts_ns)), expected)
    assert not any(row[4] == KEYFRAME for row in expected["book_delta"])
    told = [row for row in expected["book_delta"] if row[1] == ts_ns and row[6] & 32]
    assert bool(told) == (share > 0)
    whole = sum(pq.read_metadata(path).num_rows for path in committed(tmp_path))
    assert share < 0.5 or sum(counts.rows for counts in feed.counts) < whole / 2


async def test_only_files_that_count_are_read(recordings: Path, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    await recorded(folder, messages_of(recordings).slice(0, 200), USDM, roll_every="2s")
    expected = replayed(folder, records=("trade",))
    path = next(path for path in committed(folder) if "trade" in path.parts)
    for name in (f"{path.stem.rpartition('_')[0]}_000009-1.parquet", ".7-1.tmp"):
        path.with_name(name).write_bytes(path.read_bytes())
    assert replayed(folder, records=("trade",)) == expected
    path.rename(path.with_suffix(".gone"))
    with pytest.raises(InputError, match=r"the recording's manifest lists it, found none; see `penstock verify"):
        replayed(folder)
    path.with_suffix(".gone").rename(path)

    manifest = next(folder.glob("MANIFEST-*"))
    lines = manifest.read_bytes().splitlines(keepends=True)
    gone = path.relative_to(folder).as_posix()
    last = decode_line(lines[-1][:-1])
    assert isinstance(last, Entry)
    removal = Entry(v=last.v, seq=last.seq + 1, epoch=last.epoch, kind="remove", file=gone)
    manifest.write_bytes(b"".join([*lines, encode_line(removal)]))
    fewer = replayed(folder, records=("trade",))["trade"]
    assert len(fewer) == len(expected["trade"]) - pq.read_metadata(path).num_rows

    newer = encode_line(Entry(v=last.v + 1, seq=last.seq + 2, epoch=last.epoch, kind="remove", file=gone))
    manifest.write_bytes(b"".join([*lines, newer]))
    with pytest.raises(InputError, match=r"of format \d+, and this version of Penstock reads formats up to"):
        replayed(folder)
    manifest.write_bytes(b"".join([*lines[:1], b"torn\n", *lines[2:]]))
    with pytest.raises(InputError, match=r"is damaged at byte .*see `penstock verify"):
        replayed(folder)


async def test_files_without_their_manifest_replay_the_same_and_a_glob_of_them_too(
    recordings: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "r"
    await ingest(around_midnight(recordings, tmp_path / "c", 600, 400), folder, Recording(roll_every="30s"))
    expected = replayed(folder)
    manifest = next(folder.glob("MANIFEST-*"))
    manifest.rename(tmp_path / "kept")
    same(replayed(folder), expected)
    deltas = replayed(f"{folder}/book_delta/**/*.parquet")
    same(deltas, {"book_delta": expected["book_delta"]})


async def test_a_part_that_begins_in_the_middle_opens_with_the_book(recordings: Path, tmp_path: Path) -> None:
    days = around_midnight(recordings, tmp_path / "c", 600, 400)
    await ingest(days, tmp_path / "r", Recording(roll_every="20s"))
    day = next((tmp_path / "r" / "book_delta").rglob("date=2024-08-09"))
    found = replayed(day)["book_delta"]
    heads = [at for at, row in enumerate(found) if row[4] == KEYFRAME]
    assert heads == list(range(len(heads))) and len(heads) > 100
    whole = replayed(tmp_path / "r")["book_delta"]
    assert found[len(heads) :] == whole[len(whole) - (len(found) - len(heads)) :]
