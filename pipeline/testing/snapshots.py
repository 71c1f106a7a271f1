"""The examination of a stage that gives its state to checkpoints: cut anywhere, it goes on as if it had not been."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from ..checkpoints.states import packed, unpacked
from ..frames import Batch, Watermark
from ..hashing import hash_value
from ..stage import Context, Stage, Transform
from .stages import Driven, Given, given_of, shape_of, with_watermarks

COUNTED = ("late_rows", "committed_rows", "rejected_rows", "duplicate_rows")
"""Counts of a logic that the ledger shows."""


async def check_snapshots(
    stage: Stage,
    frames: Sequence[Batch | Watermark],
    *,
    cuts: Iterable[int] | None = None,
    context: Context | None = None,
) -> Given:
    """Examine how a stage is brought back; raises AssertionError saying what is wrong.

    At each of `cuts`, numbers of calls done before, all by default, from 0 to one past the end of the inputs: a logic
    gives its state and goes on with the rest; a fresh one takes the state, from bytes, and is given the same rest. Both
    give what an uninterrupted one gives, and say the same of it. A `stateless` one is brought back by nothing at all.
    Without a `Watermark` among `frames`, one follows each batch. Returns what the uninterrupted one gave.
    """
    calls: list[Batch | Watermark | None] = list(frames)
    if not any(isinstance(frame, Watermark) for frame in frames):
        calls = [*with_watermarks(frame for frame in frames if isinstance(frame, Batch))]
    calls.append(None)
    whole = await Driven.made(stage, context)
    try:
        stateless = whole.logic.stateless and not whole.logic.can_snapshot
        said_to = f"{type(whole.logic).__name__} cannot give its state, nor is it stateless"
        assert stateless or whole.logic.can_snapshot, said_to
        for call in calls:
            await whole.take(call)
        expected, said = given_of(whole.gave, dict(whole.logic.metrics())), _said(whole.logic)
    finally:
        await whole.close()
    for cut in range(len(calls) + 1) if cuts is None else cuts:
        if cut > len(calls):
            continue
        for what, (gave, found) in (await _restarted(stage, calls, cut, stateless, context)).items():
            where = f"{what} after {cut} of {len(calls)} calls"
            assert shape_of(gave) == shape_of(expected), f"{where} gave another answer"
            if not stateless or what != RESTORED:
                assert found == said, f"{where} says {found}, expected {said}"
    return expected


WENT_ON, RESTORED = "a logic that gave its state", "a logic that was brought back"


async def _restarted(
    stage: Stage, calls: Sequence[Batch | Watermark | None], cut: int, stateless: bool, context: Context | None
) -> dict[str, tuple[Given, Any]]:
    """What both logics gave in all, and what they say of it."""
    first = await Driven.made(stage, context)
    second = await Driven.made(stage, context)
    try:
        for call in calls[:cut]:
            await first.take(call)
        before = list(first.gave)
        state = None if stateless else await first.snapshot()
        given = packed(state)
        for call in calls[cut:]:
            await first.take(call)
        assert packed(state) == given, f"the state given after {cut} of {len(calls)} calls changed afterwards"
        if not stateless:
            await second.restore(unpacked(given))
        for call in calls[cut:]:
            await second.take(call)
        made = {WENT_ON: (first, first.gave), RESTORED: (second, [*before, *second.gave])}
        return {
            what: (given_of(gave, dict(driven.logic.metrics())), _said(driven.logic))
            for what, (driven, gave) in made.items()
        }
    finally:
        await first.close()
        await second.close()


def _said(logic: Transform) -> dict[str, Any]:
    """What a logic says of its work: `metrics()`, `report()` and what the ledger counts."""
    report = logic.report()
    counts = {name: getattr(logic, name, 0) for name in COUNTED}
    return {
        "metrics": repr(dict(logic.metrics())),
        "report": hash_value(report) if isinstance(report, pa.Table) else report,
        **counts,
    }
