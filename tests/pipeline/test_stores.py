"""Durable stores: what was acknowledged is there again, however the process before ended."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import stores_child
from stores_child import MODES, flow

from pipeline import DataFlow, ManagerClosed, StorageFailed, Stores, open_stores
from pipeline.data.streaming import BatchId, StreamItem
from pipeline.threads import Workers

KILLS = (30, 170, 400)
"""A child is killed when it has said so many lines."""


def run_and_kill(folder: Path, start: int, after_lines: int) -> list[str]:
    """What a child had acknowledged, as far as it came to say so, before it was killed."""
    command = [sys.executable, stores_child.__file__, str(folder), str(start)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(after_lines)]
        child.send_signal(signal.SIGKILL)
        said += child.stdout.readlines()
    assert child.returncode == -signal.SIGKILL
    return [line for line in said if line.endswith("\n")]


class Model:
    """What a mode must hold: for each key the newest acknowledged change or the one behind it, which may have been."""

    def __init__(self) -> None:
        self.values: dict[str, int | None] = {}
        self.series: list[int] = []

    def said(self, call: str, key: str, number: int) -> None:
        if call == "append":
            self.series.append(number)
        else:
            self.values[key] = number if call == "store" else None


async def test_s6_and_r1_after_kill_9_at_any_moment_everything_acknowledged_is_there(tmp_path: Path) -> None:
    """Thrice in one folder, four stores of different modes and classes at once."""
    workers = Workers(1)
    models = {mode: Model() for mode in MODES}
    for number, lines in enumerate(KILLS):
        start = number * 10_000
        for line in await workers.run(run_and_kill, tmp_path, start, lines):
            mode, call, key, text = line.split()
            models[mode].said(call, key, int(text))
        async with open_stores(tmp_path) as stores:
            assert stores.recovered.is_clean
            spoken = {mode for mode, model in models.items() if model.series or model.values}
            assert spoken <= set(stores.names()) <= set(MODES), "one that has acknowledged nothing may be unknown"
            for mode, model in models.items():
                store = await stores.open(mode, flow(mode))
                found = (await store.retrieve("series"))["n"].to_pylist() if "series" in store.keys() else []
                assert found[: len(model.series)] == model.series
                assert len(found) <= len(model.series) + 1, "one more may have come about, unacknowledged"
                model.series = found
                last = found[-1] if found else start
                for key, value in model.values.items():
                    now = await _number(store, key)
                    allowed = {value, None} if value is not None and value % 7 == 3 else {value}
                    assert now in allowed or (now is not None and now >= last), (mode, key, value, now)
                    model.values[key] = now
    await workers.close()


async def _number(store: Any, key: str) -> int | None:
    try:
        value: bytes = await store.retrieve(key)
    except KeyError:
        return None
    words = value.split()
    assert len(words) == 2000 and len(set(words)) == 1, "whole, and of one change"
    return int(words[0])


@pytest.mark.parametrize("mode", MODES)
async def test_a_store_that_was_closed_opens_with_what_it_held_here_and_in_another_process(
    mode: str, tmp_path: Path
) -> None:
    async with open_stores(tmp_path) as stores:
        store = await stores.open("quotes/é", flow(mode))
        await store.store("k", {"bid": 1.5, "at": (1, 2)})
        await store.append("s", [{"n": 1}, {"n": 2}])
        await stores.close_store("quotes/é")
        store = await stores.open("quotes/é", flow(mode))
        assert await store.retrieve("k") == {"bid": 1.5, "at": (1, 2)}
        await store.append("s", [{"n": 3}])
    async with open_stores(tmp_path) as stores:
        assert stores.names() == ["quotes/é"]
        store = await stores.open("quotes/é", flow("hybrid"))
        assert (await store.retrieve("s"))["n"].to_pylist() == [1, 2, 3]
        await stores.remove("quotes/é")
        assert stores.names() == []
    async with open_stores(tmp_path) as stores:
        store = await stores.open("quotes/é", flow(mode))
        assert store.keys() == []


async def test_a_store_that_hands_its_rows_on_tries_what_was_not_taken_again_under_the_same_id(tmp_path: Path) -> None:
    """S-3, S-5."""
    seen: list[BatchId] = []
    policy = DataFlow(mode="streaming", durability="durable")

    async def refuses(items: Sequence[StreamItem], batch_id: BatchId) -> None:
        seen.append(batch_id)
        raise RuntimeError("not today")

    async def takes(items: Sequence[StreamItem], batch_id: BatchId) -> None:
        seen.append(batch_id)

    async with open_stores(tmp_path) as stores:
        store = await stores.open("out", policy, flush=refuses)
        await store.append("s", [{"n": 1}, {"n": 2}])
        with pytest.raises(StorageFailed, match="they are in the journal"):
            await stores.close()
    async with open_stores(tmp_path) as stores:
        store = await stores.open("out", policy, flush=takes)
        await store.flush()
    assert seen == [BatchId("out", 0, 1)] * 2


async def test_what_is_ephemeral_begins_empty(tmp_path: Path) -> None:
    for _ in range(2):
        async with open_stores(tmp_path, process_memory_mb=4) as stores:
            store = await stores.open("scratch", DataFlow(mode="hybrid"))
            assert store.keys() == []
            await store.store("k", 1)


async def test_e21_and_e18_a_folder_and_a_store_are_held_once_and_closing_twice_is_nothing(tmp_path: Path) -> None:
    stores = open_stores(tmp_path)
    with pytest.raises(ManagerClosed, match="async with"):
        await stores.open("a")
    async with stores:
        store = await stores.open("a")
        with pytest.raises(StorageFailed, match="open already"):
            await stores.open("a")
        with pytest.raises(StorageFailed, match="process"):
            async with open_stores(tmp_path):
                pass
        await asyncio.gather(stores.close(), stores.close())
    with pytest.raises(ManagerClosed):
        await store.store("k", 1)
    with pytest.raises(ManagerClosed):
        await stores.open("a")


async def test_c3_a_caller_cancelled_while_the_folder_opens_leaves_nothing_open(tmp_path: Path) -> None:
    for rounds in range(6):
        stores = open_stores(tmp_path)
        task = asyncio.create_task(stores.__aenter__())
        for _ in range(rounds):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled():
            await stores.close()
    async with open_stores(tmp_path) as stores:
        assert isinstance(stores, Stores)


def put_foreign(folder: Path, *files: str) -> None:
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("file", ["store/x/precious.txt", "store/x/sub/mine.txt", "wal/000001.seg", "spill/1/a.seg"])
async def test_a_folder_that_never_was_ours_is_refused_where_we_would_write_and_left_as_it_is(
    file: str, tmp_path: Path
) -> None:
    workers = Workers(1)
    await workers.run(put_foreign, tmp_path, "notes.txt", file)
    with pytest.raises(StorageFailed, match="nothing was touched"):
        async with open_stores(tmp_path):
            pass
    assert await workers.run(files_below, tmp_path) == sorted(["notes.txt", file])
    await workers.close()


@pytest.mark.parametrize("mode", MODES)
async def test_files_of_others_in_a_folder_of_ours_stay(mode: str, tmp_path: Path) -> None:
    workers = Workers(1)
    await workers.run(put_foreign, tmp_path, "notes.txt")
    foreign = ["store/x/precious.txt", "store/x/sub/000001-aabbccdd.parquet", "notes.txt", "store/readme.txt"]
    for turn in range(2):
        async with open_stores(tmp_path) as stores:
            store = await stores.open("x", flow(mode))
            await store.store("k", turn)
            await workers.run(put_foreign, tmp_path, *foreign)
        assert set(foreign) <= set(await workers.run(files_below, tmp_path))
    await workers.close()


async def test_the_first_append_of_a_list_of_rows_imports_nothing_on_the_loop(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from pipeline import open_stores\n"
        "async def main():\n"
        f"    async with open_stores({str(tmp_path)!r}) as stores:\n"
        "        store = await stores.open('s')\n"
        "        before = set(sys.modules)\n"
        "        await store.append('k', [{'n': 1}])\n"
        "        print(sorted(name for name in set(sys.modules) - before if '.' not in name))\n"
        "asyncio.run(main())\n"
    )
    workers = Workers(1)
    said = await workers.run(subprocess.check_output, [sys.executable, "-c", program])
    assert said.decode().strip() == "[]"
    await workers.close()
