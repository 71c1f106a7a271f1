"""Files appear whole or not at all, and their bytes depend on rows alone."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.errors import SchemaMismatch, StorageFailed
from pipeline.frames import Batch
from pipeline.stage import Context
from stages.feeds.replay import Replay
from stages.feeds.synthetic import Synthetic
from stages.sinks.encoding import canonical
from stages.sinks.parquet import ParquetSink, _Shard


def market(kind: Any = "trade", rows: int = 10_000, batch_rows: int = 1000) -> list[Batch]:
    recipe = Synthetic(schema=kind, instruments=("B.X", "A.X"), rows=rows, seed=3, batch_rows=batch_rows)
    return list(recipe.build(Context()).batches())


async def write(folder: Path, batches: list[Batch], **fields: Any) -> list[Path]:
    sink = ParquetSink(**fields).build(Context(name="save", folder=folder))
    try:
        for batch in batches:
            await sink.on_batch(batch)
            assert not (folder / "save").exists()
        await sink.on_end()
        assert sink.committed_rows == sum(batch.num_rows for batch in batches)
    finally:
        await asyncio.to_thread(sink.close)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("penstock-parquet")]
    assert not list(folder.glob(".*"))
    return sorted((folder / "save").iterdir()) if (folder / "save").exists() else []


def digest(files: list[Path]) -> list[str]:
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


@pytest.mark.parametrize("kind", ["bar", "trade", "quote"])
async def test_what_is_written_is_replayed_as_it_was(tmp_path: Path, kind: str) -> None:
    batches = market(kind)
    files = await write(tmp_path, batches, row_group_rows=1024, shards=3)
    assert [file.name for file in files] == ["part-00.parquet", "part-01.parquet", "part-02.parquet"]
    replayed = Replay(path=str(tmp_path / "save")).build(Context()).batches()
    assert [row for batch in replayed for row in batch.columns.to_pylist()] == [
        row for batch in batches for row in batch.columns.to_pylist()
    ]


@pytest.mark.parametrize("batch_rows", [7, 999, 4096, 10_000])
async def test_the_same_rows_give_the_same_bytes_however_batched(tmp_path: Path, batch_rows: int) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    expected = await write(tmp_path / "a", market("bar"), row_group_rows=4096)
    assert digest(await write(tmp_path / "b", market("bar", batch_rows=batch_rows), row_group_rows=4096)) == digest(
        expected
    )


@pytest.mark.parametrize("batch_rows", [16_384, 32_768, 65_536])
async def test_pieces_that_are_not_joined_give_the_bytes_of_joined_ones(tmp_path: Path, batch_rows: int) -> None:
    def named(batches: list[Batch]) -> list[Batch]:
        """With texts of many lengths, some of them missing, and doubles that no dictionary holds."""
        named = []
        for batch in batches:
            ordinals = batch.columns.column("ingest_seq").to_numpy()
            ids = [None if n % 7 == 0 else "t" * (n % 31) + str(n) for n in ordinals.tolist()]
            named.append(batch.with_columns(trade_id=pa.array(ids, pa.utf8()), noise=np.sqrt(ordinals)))
        return named

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    rows = 150_000
    joined = await write(tmp_path / "a", named(market(rows=rows, batch_rows=9_999)), row_group_rows=131_072)
    apart = await write(tmp_path / "b", named(market(rows=rows, batch_rows=batch_rows)), row_group_rows=131_072)
    assert digest(joined) == digest(apart)


async def test_other_codes_for_the_same_names_give_the_same_bytes(tmp_path: Path) -> None:
    def batch(words: list[str], codes: list[int]) -> Batch:
        names = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), words)
        return Batch(pa.record_batch({"instrument_id": names}))

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first = await write(tmp_path / "a", [batch(["x", "y"], [0, 1]), batch(["x", "y", "z"], [2, 0])])
    second = await write(tmp_path / "b", [batch(["unused", "z", "y", "x"], [3, 2, 1, 3])])
    assert digest(first) == digest(second)


async def test_others_can_read_the_files(tmp_path: Path) -> None:
    files = await write(tmp_path, market(), row_group_rows=4096, shards=1)
    frame = pl.read_parquet(files[0])
    assert frame.height == 10_000
    assert frame["price"].dtype == pl.Decimal(18, 8)
    metadata = pq.ParquetFile(files[0]).metadata
    assert [metadata.row_group(group).num_rows for group in range(3)] == [4096, 4096, 1808]
    columns = {
        metadata.row_group(0).column(place).path_in_schema: metadata.row_group(0).column(place) for place in range(8)
    }
    assert columns["price"].physical_type == "INT64"
    assert "DELTA_BINARY_PACKED" in columns["ts_event"].encodings
    assert columns["ts_event"].statistics is not None
    assert columns["price"].statistics is None


async def test_a_sink_of_few_rows_writes_one_shard_and_of_none_nothing(tmp_path: Path) -> None:
    assert len(await write(tmp_path, market(rows=10))) == 1
    (tmp_path / "empty").mkdir()
    assert await write(tmp_path / "empty", []) == []


async def test_a_later_run_replaces_the_folder_whole(tmp_path: Path) -> None:
    await write(tmp_path, market(rows=10_000), row_group_rows=1024, shards=4)
    sink = ParquetSink().build(Context(name="save", folder=tmp_path))
    await sink.on_batch(market(rows=10)[0])
    await sink.on_end()
    sink.close()
    assert [file.name for file in (tmp_path / "save").iterdir()] == ["part-00.parquet"]


async def test_an_aborted_sink_leaves_nothing(tmp_path: Path) -> None:
    sink = ParquetSink(row_group_rows=1000).build(Context(name="save", folder=tmp_path))
    for batch in market():
        await sink.on_batch(batch)
    await asyncio.to_thread(sink.close)
    assert list(tmp_path.iterdir()) == []
    assert sink.committed_rows == 0


async def test_no_shard_holds_more_than_its_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def held(table: pa.Table) -> pa.Table:
        gate.wait(30)
        return canonical(table)

    monkeypatch.setattr("stages.sinks.parquet.canonical", held)
    sink = ParquetSink(row_group_rows=100, shards=2).build(Context(name="save", folder=tmp_path))
    taken = 0

    async def send() -> None:
        nonlocal taken
        for batch in market(rows=1000, batch_rows=100):
            await sink.on_batch(batch)
            taken += 1

    sending = asyncio.ensure_future(send())
    for _ in range(100):
        await asyncio.sleep(0)
    assert taken == 4  # two shards, each one group being written and one queued
    gate.set()
    await sending
    await sink.on_end()
    sink.close()
    assert sink.committed_rows == 1000


async def test_columns_that_change_mid_stream_are_named(tmp_path: Path) -> None:
    sink = ParquetSink().build(Context(name="save", folder=tmp_path))
    await sink.on_batch(market("trade")[0])
    with pytest.raises(SchemaMismatch, match=r"found bid_price decimal64\(18, 8\).* and no price.*a sink of its own"):
        await sink.on_batch(market("quote")[0])
    await asyncio.to_thread(sink.close)


async def test_a_disk_that_fails_fails_the_sink_and_stays_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(table: pa.Table) -> pa.Table:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("stages.sinks.parquet.canonical", full)
    sink = ParquetSink(row_group_rows=1000).build(Context(name="save", folder=tmp_path))
    await sink.on_batch(market()[0])
    with pytest.raises(StorageFailed, match="No space left on device; nothing was published"):
        await sink.on_end()
    with pytest.raises(StorageFailed):
        await sink.on_batch(market()[1])
    with pytest.raises(StorageFailed):
        await sink.on_end()
    await asyncio.to_thread(sink.close)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": "../out"}, "path: expected a folder below the run's, found '../out'"),
        ({"path": "/out"}, "path: expected a folder below the run's"),
        ({"path": ""}, "path: expected a folder below the run's"),
        ({"shards": 0}, "shards: expected 1 to 64, found 0"),
        ({"row_group_rows": 0}, "row_group_rows: expected 1 to"),
    ],
)
def test_wrong_settings_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(fields, ParquetSink)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="expected a folder below"):
        ParquetSink(path="link/out").build(Context(folder=tmp_path / "run"))


def worded(random: np.random.Generator, table: pa.Table) -> list[Batch]:
    """The same rows in random pieces, each with names in an order of its own and some that no row has."""
    places = sorted({0, *random.integers(0, len(table), int(random.integers(0, 30))).tolist(), len(table)})
    batches = []
    for first, last in itertools.pairwise(places):
        rows = table.slice(first, last - first).combine_chunks().to_batches()[0]
        words = list(random.permutation(["A.X", "B.X", "unused", ""]))
        codes = pc.index_in(rows.column("instrument_id").cast(pa.utf8()), pa.array(words, pa.utf8()))
        column = pa.DictionaryArray.from_arrays(codes, pa.array(words, pa.utf8()))
        batches.append(Batch(rows.set_column(rows.schema.get_field_index("instrument_id"), "instrument_id", column)))
    return batches


@pytest.mark.parametrize("seed", range(6))
async def test_r6_input_given_again_makes_the_same_files_however_it_is_cut(tmp_path: Path, seed: int) -> None:
    """Fed once, and, as after a crash at its end, fed anew into the same folder."""
    random = np.random.default_rng(seed)
    table = pa.Table.from_batches([batch.columns for batch in market("trade", 40_000, 40_000)])
    fields = {"row_group_rows": int(random.integers(1, 40_000)), "shards": int(random.integers(1, 4))}
    first = digest(await write(tmp_path, worded(random, table), **fields))
    sink = ParquetSink(**fields).build(Context(name="save", folder=tmp_path))
    sink.warm()
    for batch in worded(random, table):
        await sink.on_batch(batch)
    await sink.on_end()
    await asyncio.to_thread(sink.close)
    assert digest(sorted((tmp_path / "save").iterdir())) == first
    assert sink.committed_rows == 40_000
    assert not sink.can_snapshot and not sink.stateless
    assert [path.name for path in tmp_path.iterdir()] == ["save"]


@pytest.mark.parametrize("published", [False, True])
async def test_r6_what_a_process_that_died_has_left_is_cleared_away(tmp_path: Path, published: bool) -> None:
    """It died while it wrote; and between the two steps of replacing, when the folder before is all there is."""
    for name in (".save.partial", ".save.replaced", *(["save"] if published else [])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part-00.parquet").write_text(name)
    (tmp_path / ".mine").write_text("a file of somebody else's")
    sink = ParquetSink().build(Context(name="save", folder=tmp_path))
    sink.warm()
    await sink.on_end()
    await asyncio.to_thread(sink.close)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine", "save"]
    assert (tmp_path / "save" / "part-00.parquet").read_text() == ("save" if published else ".save.replaced")


async def test_a_shard_that_begins_late_takes_nothing_away_from_one_that_was_quicker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, as_it_is = threading.Event(), _Shard.write

    def late(self: _Shard, pieces: list[pa.RecordBatch]) -> None:
        if self._place == 0:
            assert written.wait(30)
        as_it_is(self, pieces)
        if self._place == 1:
            written.set()

    monkeypatch.setattr(_Shard, "write", late)
    files = await write(tmp_path, market("trade", 4000, 1000), shards=2, row_group_rows=1000)
    assert sum(pq.read_metadata(file).num_rows for file in files) == 4000
