"""Runs that are stopped and gone on with: what is said of it, who may go on, and where a pusher goes on."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from resumed_runs import Sums

from pipeline import (
    Context,
    EdgePolicy,
    Input,
    PhaseFailed,
    Pipeline,
    Run,
    Stage,
    TopologyBuilder,
    Transform,
    sequencer,
)
from pipeline.containers.pushing import Push
from pipeline.testing import ListFeed, Mark, Pause
from tests.patience import SECONDS

ITEMS = [{"ts_event": [n], "n": [n]} for n in range(40)]


PAUSE = Pause()
"""One for all, since a recipe's fields count in the hash of its configuration."""


def paused(output: Path, stage: Stage | None = None) -> tuple[Pipeline, Pause]:
    """A run that stands still after 25 of 40 rows."""
    pause = PAUSE
    feed = ListFeed(items=[*ITEMS[:25], Mark.PAUSE, *ITEMS[25:]], pause=pause)
    builder = TopologyBuilder().add("data", feed).add("sums", stage or Sums(), ["data"])
    return Pipeline.from_topology(builder.build(), output=output, checkpoint_seconds=0.005), pause


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0)


def rows_in(run: Run) -> int:
    """Rows the last checkpoint holds."""
    checkpointer = None if run._engine is None else run._engine.checkpointer
    return 0 if checkpointer is None or checkpointer.last is None else checkpointer.last.rows


async def stopped(output: Path) -> tuple[Pipeline, Pause]:
    """The same, left at once when a checkpoint held all 25."""
    pipeline, pause = paused(output)
    pause.reached, pause._go = anyio.Event(), anyio.Event()
    async with pipeline.start() as run:
        run.begin()
        await until(lambda: rows_in(run) == 25)
    return pipeline, pause


async def whole(output: Path) -> bytes:
    pipeline, pause = paused(output)
    pause.resume()
    await pipeline.run()
    return summary_in(output)


async def finished(pipeline: Pipeline, **words: bool) -> None:
    async with pipeline.start(**words) as run:
        await run.finished()


def summary_in(output: Path) -> bytes:
    (found,) = [path for path in output.rglob("summary.json") if "latest" not in path.parts]
    return found.read_bytes()


async def test_a_run_that_was_stopped_goes_on_from_its_checkpoint_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """R-6."""
    wanted = await whole(tmp_path / "whole")
    pipeline, pause = await stopped(tmp_path / "stopped")
    pause.resume()
    with caplog.at_level(logging.INFO, "penstock"):
        async with pipeline.start(resume=True) as run:
            assert run.resumed_rows("data") == 25
            with pytest.raises(KeyError, match="there are data"):
                run.resumed_rows("sums")
            await run.finished()
    assert "phase 'run' goes on from its checkpoint: 25 rows are in" in caplog.text
    assert summary_in(tmp_path / "stopped") == wanted
    assert not list((tmp_path / "stopped").rglob("*.seg")), "a complete phase needs no journal and no checkpoint"
    async with pipeline.start(resume=True) as run:
        await run.finished()
        assert run.skipped == ("run",)


async def test_resume_that_finds_nothing_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """R-6: other options lead to another folder, and a whole run begins anew."""
    pipeline, pause = paused(tmp_path)
    pause.resume()
    async with pipeline.start(resume=True) as run:
        await run.finished()
    assert re.search(r"phase 'run' begins anew: .* holds no checkpoint of it", caplog.text)


class Forgetful(Sums, frozen=True):
    def build(self, context: Context) -> Transform:
        logic = super().build(context)

        def refuse(state: Any) -> None:
            raise KeyError("nope")

        logic.restore = refuse  # type: ignore[method-assign]
        return logic


class Shy(Sums, frozen=True):
    def build(self, context: Context) -> Transform:
        logic = super().build(context)

        def refuse() -> Any:
            raise RuntimeError("not now")

        logic.snapshot = refuse  # type: ignore[method-assign]
        return logic


async def test_a_state_that_is_not_taken_back_is_named_and_the_phase_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """R-6."""
    pipeline, pause = paused(tmp_path, Forgetful())
    pause.reached, pause._go = anyio.Event(), anyio.Event()
    async with pipeline.start() as run:
        run.begin()
        await until(lambda: rows_in(run) == 25)
    pause.resume()
    async with pipeline.start(resume=True) as run:
        await run.finished()
    assert "restore() of 'sums' did not take what its snapshot() gave: KeyError: 'nope'" in caplog.text


async def test_a_snapshot_that_raises_costs_a_checkpoint_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """R-6: said once, however often it is tried."""
    pipeline, pause = paused(tmp_path, Shy())
    pause.reached, pause._go = anyio.Event(), anyio.Event()
    async with pipeline.start() as run:
        run.begin()
        await until(lambda: run._engine is not None and run._engine.checkpointer is not None
                    and run._engine.checkpointer.figures.abandoned > 3)  # fmt: skip
        pause.resume()
        await run.finished()
    assert caplog.text.count("snapshot() of 'sums' raised RuntimeError: not now") == 1


async def test_without_resume_it_begins_anew_and_says_what_would_have_been(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """R-6."""
    wanted = await whole(tmp_path / "whole")
    pipeline, pause = await stopped(tmp_path / "stopped")
    pause.resume()
    async with pipeline.start(force=False) as run:
        assert run.resumed_rows("data") == 0
        await run.finished()
    assert "phase 'run' begins anew, though it had come to 25 rows; `--resume` (resume=True)" in caplog.text
    assert summary_in(tmp_path / "stopped") == wanted


@pytest.mark.parametrize(
    "how",
    ["torn", "flipped", "another version", "another journal", "no journal", "half a journal", "the journal's end"],
)
async def test_what_cannot_be_gone_on_from_is_told_and_begins_anew(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-3, R-6: nothing is taken from a checkpoint that is not whole, or is another program's."""
    wanted = await whole(tmp_path / "whole")
    pipeline, pause = await stopped(tmp_path / "stopped")
    pause.resume()
    (checkpoint,) = [path for path in (tmp_path / "stopped").rglob("checkpoints/*.seg") if "latest" not in path.parts]
    raw = checkpoint.read_bytes()
    if how == "torn":
        checkpoint.write_bytes(raw[:-1])
    elif how == "flipped":
        checkpoint.write_bytes(raw[:100] + bytes([raw[100] ^ 1]) + raw[101:])
    elif how == "another version":
        monkeypatch.setattr(sequencer, "code_version", lambda: "another")
    else:  # "no journal" and "half a journal" went on without rows of kept output, and said nothing
        segment = min(path for path in (tmp_path / "stopped").rglob("wal/*.seg") if "latest" not in path.parts)
        journal = segment.read_bytes()
        if how == "no journal":
            segment.unlink()
        elif how == "half a journal":
            segment.write_bytes(journal[: len(journal) // 2])
        elif how == "the journal's end":
            segment.write_bytes(journal[:-1] + bytes([journal[-1] ^ 1]))
        else:
            segment.write_bytes(journal[:200] + bytes(50) + journal[250:])
    async with pipeline.start(resume=True) as run:
        await run.finished()
    said = {
        "torn": "is lost: it has",
        "flipped": "begins anew, since its checkpoint cannot be gone on from: .*not as it was committed",
        "another version": "begins anew, .*expected a checkpoint with version 'another'",
        "another journal": "begins anew, .*expected the whole journal, found",
        "no journal": r"seg is lost: wal/000001.seg, which phase 'run' would go on with, is not whole",
        "half a journal": r"seg is lost: wal/000001.seg, which phase 'run' would go on with, is not whole",
        "the journal's end": "wal/000001.seg, which phase 'run' would go on with, is not whole|begins anew, .*expected",
    }
    assert any(re.search(said[how], record.getMessage()) for record in caplog.records), caplog.text
    assert summary_in(tmp_path / "stopped") == wanted


async def test_who_pushes_rows_goes_on_as_often_as_the_run_dies(tmp_path: Path) -> None:
    """R-6: it is told how many rows are in; what is given from the journal is not written to it once more."""

    def pipeline(output: Path) -> Pipeline:
        builder = TopologyBuilder().add("ticks", Push()).add("sums", Sums(), ["ticks"])
        return Pipeline.from_topology(builder.build(), output=output, checkpoint_seconds=0.005)

    async with pipeline(tmp_path / "whole").start() as run:
        for item in ITEMS:
            await run.push("ticks", item)
        run.push_end("ticks")
        await run.finished()
    done = 0
    for stop in (10, 20, 30, len(ITEMS)):
        async with pipeline(tmp_path / "stopped").start(resume=done > 0) as run:
            rows = run.resumed_rows("ticks") if done else 0
            assert rows in (done, done + 1)
            for item in ITEMS[rows:stop]:
                await run.push("ticks", item)
            if stop == len(ITEMS):
                run.push_end("ticks")
                await run.finished()
            else:
                await until(partial(lambda run, stop: rows_in(run) == stop, run, stop))
        done = stop
    assert summary_in(tmp_path / "stopped") == summary_in(tmp_path / "whole")


async def test_a_feed_with_less_than_it_gave_before_fails_the_phase(tmp_path: Path) -> None:
    """R-6: its rows were worked on; a shorter feed is another one."""
    pipeline, pause = await stopped(tmp_path)
    recipe = pipeline.topology["data"].stage
    assert isinstance(recipe, ListFeed)
    recipe.items[10:] = [Mark.EOF, *recipe.items[10:]]
    pause.resume()
    plan = pipeline.plan
    folder = next(path for path in tmp_path.glob("run/*") if path.name != "latest")
    monkey = pytest.MonkeyPatch()
    monkey.setattr(sequencer, "_fingerprint", lambda plan: folder.name)
    try:
        async with Pipeline(plan).start(resume=True) as run:
            with pytest.raises(Exception, match=r"gave 10 rows where it had given 25 .*its data has changed"):
                await run.finished()
    finally:
        monkey.undo()


@pytest.mark.parametrize("words", [{"resume": True}, {"force": False}])
async def test_a_run_whose_manifest_is_gone_is_refused_and_left_as_it_is(
    words: dict[str, bool], tmp_path: Path
) -> None:
    """R-3: no journal and no checkpoint is removed because nobody knows any more what it is."""
    wanted = await whole(tmp_path / "whole")
    pipeline, pause = await stopped(tmp_path / "stopped")
    (folder,) = [path for path in (tmp_path / "stopped" / "run").iterdir() if path.name != "latest"]
    manifest = max(folder.glob("MANIFEST-*"))
    taken = manifest.read_bytes()
    before = gone(folder)
    pause.resume()
    for _ in range(2):
        with pytest.raises(PhaseFailed, match=r"files of a journal and checkpoints \(.*wal/.*no MANIFEST.*--force"):
            await finished(pipeline, **words)
        assert {path: path.read_bytes() for path in before} == before
    await asyncio.to_thread(manifest.write_bytes, taken)
    async with pipeline.start(resume=True) as run:
        assert run.resumed_rows("data") == 25
        await run.finished()
    assert summary_in(tmp_path / "stopped") == wanted


@pytest.mark.parametrize("words", [{"force": True}, {"resume": True, "repair": True}])
async def test_a_run_whose_manifest_is_gone_begins_anew_where_that_is_asked_for_and_keeps_what_there_was(
    words: dict[str, bool], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """R-3."""
    wanted = await whole(tmp_path / "whole")
    pipeline, pause = await stopped(tmp_path / "stopped")
    (folder,) = [path for path in (tmp_path / "stopped" / "run").iterdir() if path.name != "latest"]
    before = gone(folder)
    pause.resume()
    await finished(pipeline, **words)
    kept = [path.read_bytes() for path in (folder / "quarantine").iterdir()]
    assert sorted(kept) == sorted(before.values())
    assert "there is no manifest that lists it; what is left of it is kept as quarantine/" in caplog.text
    assert summary_in(tmp_path / "stopped") == wanted


def gone(folder: Path) -> dict[Path, bytes]:
    """The folder's journal and checkpoints, whose manifests are removed."""
    for path in folder.glob("MANIFEST-*"):
        path.unlink()
    found = {path: path.read_bytes() for room in ("wal", "checkpoints") for path in (folder / room).iterdir()}
    assert len(found) >= 2
    return found


@pytest.mark.parametrize("when_full", ["conflate", "drop_oldest", "drop_newest"])
async def test_an_edge_that_loses_rows_is_refused_with_what_to_use_instead(when_full: Any, tmp_path: Path) -> None:
    feed = ListFeed(items=ITEMS, is_live=True)
    lossy = Input("data", EdgePolicy(max_rows=9, when_full=when_full, key="n" if when_full == "conflate" else None))
    builder = TopologyBuilder().add("data", feed).add("sums", Sums(), [lossy])
    pipeline = Pipeline.from_topology(builder.build(), output=tmp_path, checkpoint_seconds=9)
    told = rf"containers.sums.inputs: .*found 'when_full: {when_full}' from 'data'.*use 'block' .* or 'spill'"
    with pytest.raises(PhaseFailed, match=told):
        await pipeline.run()
