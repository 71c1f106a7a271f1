"""Values of a run: from the data managers of the phase that runs, from what earlier ones left afterwards."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from .data import DataManager, MemberStores
from .data.base import Key
from .engines.local import LocalEngine
from .results import PhaseResults
from .sequencer import Sequencer
from .threads import Workers


async def retrieve(
    sequencer: Sequencer, engine: LocalEngine | None, container: str, key: Key, phase: str | None
) -> Any:
    """A value of a container or member: of the phase that runs, else of the last that has it, or of `phase`.

    Raises KeyError where there is none.
    """
    if engine is not None and phase in (None, engine.folder.name):
        keeper = engine.keeper_of(container)
        if keeper is not None:
            if isinstance(keeper.store, MemberStores):
                return await keeper.store.retrieve(container, key)
            assert isinstance(keeper.store, DataManager)
            return await keeper.store.retrieve(key)
    left, summaries = sequencer.leftovers, sequencer.summaries
    if phase is not None and phase not in left and phase not in summaries:
        raise KeyError(f"no phase called '{phase}' has completed; there are {', '.join(summaries) or 'none'}")
    for name in [phase] if phase is not None else [*reversed(left)]:
        if (container, key) in left.get(name, {}):
            value = left[name][container, key]
            return pa.Table.from_batches([value]) if isinstance(value, pa.RecordBatch) else value
    names = [name for name in reversed(summaries) if phase in (None, name)]
    if not names or sequencer.folder is None:
        raise KeyError(f"'{container}' holds no {key!r}: the run left no summary")
    results = [PhaseResults(sequencer.folder.phase(name), summaries[name]) for name in names]
    workers = Workers(1)
    try:
        return await workers.run(_first, results, container, key if isinstance(key, str) else key.hex())
    finally:
        await workers.close()


def _first(phases: list[PhaseResults], container: str, key: str) -> Any:
    """What the first of the phases has that has it. Blocking."""
    missing: list[KeyError] = []
    for results in phases:
        try:
            return results[container][key]
        except KeyError as error:
            missing.append(error)
    raise missing[0]
