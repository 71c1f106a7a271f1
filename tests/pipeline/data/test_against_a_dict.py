"""Random programs of calls, cancelled here and there, against a plain dict."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from data_support import batch, rows
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipeline.data import DataFlow, DataManager, build_manager
from pipeline.errors import BudgetExceeded, SchemaMismatch
from pipeline.storage.workspace import Workspace

BUDGET = 6 * 8200 / (1 << 20)
KEYS = st.sampled_from(["a", "b", "c", "d", b"a"])
SIZES = st.sampled_from([1, 100, 1000, 1000, 3000, 9000])
CALLS = st.one_of(
    st.tuples(st.just("store"), KEYS, SIZES),
    st.tuples(st.just("append"), KEYS, SIZES),
    st.tuples(st.just("delete"), KEYS, st.just(0)),
    st.tuples(st.just("retrieve"), KEYS, st.just(0)),
    st.tuples(st.just("stream"), KEYS, st.just(0)),
    st.tuples(st.just("flush"), st.just("a"), st.just(0)),
)
STEPS = st.lists(st.tuples(CALLS, st.one_of(st.none(), st.integers(0, 6))), min_size=10, max_size=40)
"""A call, and after how many steps of the loop it is cancelled, if it is."""


class Model:
    """What should be there. After a cancelled call either outcome is right."""

    def __init__(self) -> None:
        self.now: dict[Any, Any] = {}
        self.maybe: dict[Any, list[Any]] = {}

    def apply(self, call: str, key: Any, new: Any) -> Any:
        old = self.now.get(key)
        if call == "store":
            return ("value", new)
        if call == "append":
            return ("series", [*(old[1] if old else []), new]) if old is None or old[0] == "series" else old
        return None


def expected(state: Any) -> Any:
    kind, content = state
    return content if kind == "value" else pa.Table.from_batches(content)


async def run(manager: DataManager, steps: list[Any]) -> None:
    model = Model()
    for number, ((call, key, size), cancel_after) in enumerate(steps):
        new = batch(number, size) if call == "store" else rows(number * 10_000, size)
        outcome = await _call(manager, call, key, new, cancel_after)
        old = model.now.get(key)
        if call in ("store", "append", "delete"):
            if outcome == "cancelled":
                found = await _state(manager, key)
                after = model.apply(call, key, new)
                matching = [state for state in (after, old) if _matches(found, state)]
                assert matching, f"after a cancelled {call} of {key!r}: {found}"
                if matching[0] is None:
                    model.now.pop(key, None)
                else:
                    model.now[key] = matching[0]
            elif outcome == "done":
                assert call != "delete" or old is not None
                after = model.apply(call, key, new)
                if after is None:
                    model.now.pop(key, None)
                else:
                    model.now[key] = after
            elif outcome == "KeyError":
                assert call == "delete"
                assert old is None
            elif outcome == "SchemaMismatch":
                assert call == "append"
                assert old is not None
                assert old[0] == "value"
            else:
                assert outcome == "BudgetExceeded"
        stats = manager.stats()
        assert stats.charged_bytes <= stats.peak_bytes <= stats.limit_bytes
        assert set(manager.keys()) == set(model.now)
    for key, state in model.now.items():
        assert _matches(await _state(manager, key), state), key
        streamed = [piece async for piece in manager.iter_batches(key)]
        if state[0] == "series":
            assert pa.Table.from_batches(streamed).equals(expected(state))
    for key in list(model.now):
        await manager.delete(key)
    await manager.flush()
    while manager.stats().charged_bytes or manager.stats().disk_bytes:
        await asyncio.sleep(0)


async def _call(manager: DataManager, call: str, key: Any, new: Any, cancel_after: int | None) -> str:
    async def stream() -> None:
        async for _ in manager.iter_batches(key):
            await asyncio.sleep(0)

    work = {
        "store": lambda: manager.store(key, new),
        "append": lambda: manager.append(key, new),
        "delete": lambda: manager.delete(key),
        "retrieve": lambda: manager.retrieve(key),
        "stream": stream,
        "flush": manager.flush,
    }[call]()
    task = asyncio.ensure_future(work)
    if cancel_after is not None:
        for _ in range(cancel_after):
            await asyncio.sleep(0)
        task.cancel()
    try:
        await task
    except (KeyError, BudgetExceeded, SchemaMismatch) as error:
        return type(error).__name__ if not isinstance(error, KeyError) else "KeyError"
    except asyncio.CancelledError:
        return "cancelled"
    return "done"


async def _state(manager: DataManager, key: Any) -> Any:
    try:
        return await manager.retrieve(key)
    except KeyError:
        return None


def _matches(found: Any, state: Any) -> bool:
    if found is None or state is None:
        return found is None and state is None
    return type(found) is type(expected(state)) and found.equals(expected(state))


@pytest.mark.parametrize("mode", ["hybrid", "memory", "streaming", "file"])
def test_any_program_of_calls_answers_like_a_dict(mode: str) -> None:
    """T6, C-1: without crashes; with them see test_durable_managers."""
    budget = BUDGET if mode != "memory" else 100

    @settings(
        max_examples=200 if mode == "hybrid" else 40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        phases=[Phase.generate],  # shrinking takes minutes; take it back in to understand a failure
        database=None,
    )
    @given(STEPS)
    def examine(steps: list[Any]) -> None:
        async def program() -> None:
            with tempfile.TemporaryDirectory() as folder:
                workspace = Workspace(Path(folder))
                flow = DataFlow(mode=mode, memory_limit_mb=budget, admission_timeout_seconds=20)
                manager = build_manager("m", flow, workspace)
                try:
                    await run(manager, steps)
                finally:
                    await manager.close()
                    await workspace.close()

        asyncio.run(program())

    examine()
