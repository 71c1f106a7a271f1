"""A group's stores: an account per member, next to nothing when idle."""

from __future__ import annotations

import threading
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from data_support import batch, rows

from pipeline.data import DataFlow, MemberStores
from pipeline.errors import BudgetExceeded
from pipeline.storage.workspace import Workspace


async def test_every_member_has_its_own_budget_and_its_values_spill_on_its_own_account(workspace: Workspace) -> None:
    def policy(member: str) -> DataFlow:
        return DataFlow(mode="memory" if member == "m" else "hybrid", memory_limit_mb=0.05)

    stores = MemberStores("group", policy, workspace)
    for n in range(20):
        await stores.store("h", f"k{n}", batch(n))
    await stores.append("h2", "s", rows(0, 10))
    for n in range(6):
        await stores.store("m", f"k{n}", batch(n))
    with pytest.raises(BudgetExceeded):
        await stores.store("m", "k6", batch(6))
    each = stores.member_stats()
    assert list(each) == ["h", "h2", "m"]
    assert each["h"].evictions > 0
    assert each["h2"].evictions == each["m"].evictions == 0
    total = stores.stats()
    assert total.mode == "mixed"
    assert total.entries == 27
    assert total.charged_bytes == sum(stats.charged_bytes for stats in each.values())
    assert (await stores.retrieve("h", "k0")).equals(batch(0))
    with pytest.raises(KeyError):
        await stores.retrieve("h2", "k0")
    await stores.close()


async def test_a_thousand_idle_members_cost_no_thread_no_folder_and_little_memory(workspace: Workspace) -> None:
    threads = threading.active_count()
    tracemalloc.start()
    try:
        stores = MemberStores("group", lambda member: DataFlow(mode="hybrid", memory_limit_mb=5), workspace)
        for n in range(1000):
            await stores.store(f"portfolio_{n:04}", "result", {"sharpe": 1.0})
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 10 << 20
    assert threading.active_count() == threads
    assert not workspace.folder.exists()
    await stores.close()


async def test_rows_of_many_members_extend_each_ones_own_series(workspace: Workspace) -> None:
    stores = MemberStores("portfolio", lambda member: DataFlow(), workspace)
    await stores.append_rows("fills", ["a", "b"], np.array([0, 2, 3]), pa.record_batch({"x": [1, 2, 3]}))
    await stores.append_rows("fills", ["b", "c"], np.array([0, 1, 1]), pa.record_batch({"x": [4]}))
    held = {member: (await stores.retrieve(member, "fills"))["x"].to_pylist() for member in ("a", "b", "c")}
    assert held == {"a": [1, 2], "b": [3, 4], "c": []}
    await stores.close()
