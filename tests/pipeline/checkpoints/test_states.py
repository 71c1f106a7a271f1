"""What a state says of itself, how strangers' states are kept, and the examination of who gives one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from pipeline import (
    Batch,
    Context,
    Result,
    Stage,
    StateMismatch,
    StateOf,
    Transform,
    UnsupportedType,
    fitting,
    packed,
    unpacked,
)
from pipeline.checkpoints.cuts import Checkpoint, ContainerCut, InboxCut
from pipeline.checkpoints.files import CheckpointFiles
from pipeline.storage.entries import Mark
from pipeline.storage.root import StorageRoot
from pipeline.testing import check_snapshots

MINE = StateOf("counter", 2, {"every": 5, "names": ["a"]})


def test_r6_a_state_is_opened_by_its_like_alone() -> None:
    sealed = unpacked(packed(MINE.seal({"n": 1})))
    assert MINE.open(sealed) == {"n": 1}
    for wrong, said in (
        (StateOf("adder", 2, MINE.told), "a state of adder, version 2, found one of counter, version 2"),
        (StateOf("counter", 3, MINE.told), "a state of counter, version 3, found one of counter, version 2"),
        (StateOf("counter", 2, {"every": 6, "names": ["a"]}), "counter with every 6, found 5"),
        (StateOf("counter", 2, {"every": 5}), r"counter with names None, found \['a'\]"),
        (
            StateOf("counter", 2, {**MINE.told, "more": "x" * 999}),
            r"with more 'x{76}\.\.\., found None; a checkpoint belongs",
        ),
    ):
        with pytest.raises(StateMismatch, match=said):
            wrong.open(sealed)
    for junk in (None, {}, [], b"bytes", {"of": "counter"}):
        with pytest.raises(StateMismatch, match="expected a state of counter, found"):
            MINE.open(junk)


def test_r6_an_array_taken_back_may_be_written_to_and_has_the_right_shape() -> None:
    kept = unpacked(packed(np.arange(6.0).reshape(2, 3)))
    assert not kept.flags.writeable
    taken = fitting("sums", kept, np.empty((2, 3)))
    taken += 1
    assert kept[0, 0] == 0
    assert fitting("sums", kept, np.empty((9, 3)), rows=True).shape == (2, 3)
    for like in (np.empty((3, 3)), np.empty((2, 3), np.float32), np.empty(6), np.empty((2, 3, 1))):
        with pytest.raises(StateMismatch, match=r"expected sums to be .*found dtype\('float64'\) \(2, 3\)"):
            fitting("sums", kept, like)
    record = np.dtype([("price", "f8"), ("n", "i8")], align=True)
    kept = unpacked(packed(np.ones(3, record)))
    assert not kept.dtype.isalignedstruct
    assert fitting("records", kept, np.empty(3, record)).dtype.isalignedstruct
    with pytest.raises(StateMismatch, match="expected sums to be"):
        fitting("sums", None, np.empty(0), rows=True)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("rows", [0, 3, 200_000])
def test_c8_arrays_come_back_as_they_were_whatever_their_size_and_order(rows: int, order: Any) -> None:
    record = np.dtype([("price", "f8"), ("n", "i4")], align=True)
    plain = np.arange(2 * rows, dtype=np.float64).reshape(rows, 2)
    for array in (
        np.array(plain, order=order),
        plain[:, :1],
        plain[::2],
        np.ones(rows, record),
        np.ones(rows, "M8[ns]"),
    ):
        again = unpacked(packed({"array": array}))["array"]
        np.testing.assert_array_equal(again, array)
        assert again.dtype == array.dtype


class Point(msgspec.Struct):
    x: int


def test_r6_what_another_process_could_not_read_is_refused() -> None:
    with pytest.raises(UnsupportedType, match="found a struct Point, whose class another process need not have"):
        packed({"at": [Point(1)]})
    with pytest.raises(UnsupportedType, match=r"without pickle"):
        packed([object()])


class Sums(Stage, frozen=True):
    """A running sum that is brought back rightly, or with a mistake people make."""

    mistake: str = ""

    def build(self, context: Context) -> Transform:
        kind = {"says nothing": Silent, "says it forgets": Forgetful}.get(self.mistake, SumsLogic)
        return kind(self.mistake)


class Silent(Transform):
    def __init__(self, mistake: str) -> None:
        self.mistake = mistake
        self.state = {"totals": np.zeros(1), "calls": 0}

    def on_batch(self, batch: Batch) -> Any:
        self.state["totals"] += sum(batch.columns.column("n").to_pylist())
        self.state["calls"] += 1
        return batch.with_columns(sum=pa.array([float(self.state["totals"][0])] * batch.num_rows))

    def on_end(self) -> Any:
        return Result("total", {"total": float(self.state["totals"][0])})

    def metrics(self) -> dict[str, Any]:
        return {"calls": self.state["calls"]}


class Forgetful(Silent):
    stateless = True


class SumsLogic(Silent):
    def snapshot(self) -> Any:
        if self.mistake == "lends what it changes":
            return self.state
        copied = {name: np.copy(value) if name == "totals" else value for name, value in self.state.items()}
        if self.mistake == "forgets what it counts":
            copied["calls"] = 0
        return copied

    def restore(self, state: Any) -> None:
        self.state = {**state, "totals": state["totals"].copy()}
        if self.mistake == "forgets what it sums":
            self.state["totals"][:] = 0


def batches() -> list[Batch]:
    return [Batch.from_pydict({"ts_event": [at], "n": [at + 1]}) for at in range(4)]


async def test_r6_a_stage_that_is_brought_back_rightly_passes() -> None:
    given = await check_snapshots(Sums(), batches())
    assert given.results == {("", "total"): {"total": 10.0}}


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ("says nothing", "Silent cannot give its state, nor is it stateless"),
        ("says it forgets", "a logic that was brought back after 1 of 9 calls gave another answer"),
        ("lends what it changes", "the state given after 0 of 9 calls changed afterwards"),
        ("forgets what it sums", "a logic that was brought back after 1 of 9 calls gave another answer"),
        ("forgets what it counts", "a logic that was brought back after 1 of 9 calls says .*'calls': 3"),
    ],
)
async def test_r6_a_stage_that_is_brought_back_wrongly_is_caught(mistake: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        await check_snapshots(Sums(mistake=mistake), batches())


@pytest.mark.parametrize("lies", ["in a row", "row by row", "in short rows", "column by column", "as records", "apart"])
def test_large_arrays_of_a_state_are_written_from_where_they_lie_and_come_back(lies: str, tmp_path: Path) -> None:
    """R-6: beside the tree, through a file, aligned; small ones and whole trees of values as ever."""
    base = np.arange(400_000.0).reshape(400, 1000)
    array: Any = {
        "in a row": base,
        "row by row": base[:, :900],
        "in short rows": np.arange(400_000.0).reshape(-1, 4)[:, :3],
        "column by column": np.asfortranarray(base),
        "as records": np.zeros(50_000, np.dtype([("at", "M8[ns]"), ("side", "i1"), ("price", "f8")])),
        "apart": base[::2, ::2],
    }[lies]
    state = {"small": np.arange(3), "pair": (array, [array[:1]]), "text": "x"}
    cuts = {name: ContainerCut(kind="state", state=state, inbox=InboxCut()) for name in ("a", "b")}
    checkpoint = Checkpoint(phase="run", number=7, containers=cuts, mark=Mark(0, 0))
    root = StorageRoot.open(tmp_path)
    files = CheckpointFiles(root, "run", {"test": 1})
    files.save(checkpoint)
    loaded = files.load()
    root.close()
    assert loaded is not None
    for name in ("a", "b"):
        found = loaded.containers[name].state
        assert found["small"].tolist() == [0, 1, 2] and found["text"] == "x"
        for array_found, wanted in ((found["pair"][0], array), (found["pair"][1][0], array[:1])):
            assert array_found.dtype == wanted.dtype and array_found.flags.aligned and not array_found.flags.writeable
            assert np.array_equal(array_found, wanted)
