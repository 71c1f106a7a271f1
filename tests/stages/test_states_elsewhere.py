"""A backtest's stages, cut in the middle, go on in another process from bytes alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline import Batch, MemberRows, Watermark, packed, unpacked
from pipeline.hashing import hash_value
from pipeline.stage import Context
from stages import EmaCross, Features, Momentum, Peeking, Rsi, SmaCross, Synthetic
from stages.portfolio.portfolio import Portfolio

STRATEGIES = (SmaCross(fast=2, slow=5), EmaCross(fast=2, slow=4), Rsi(n=5), Momentum(n=3, side="both"), Peeking())


def stages() -> list[Any]:
    """Features and a group of portfolios, as a run builds them."""
    members = {f"p_{number}": Portfolio(strategy=strategy) for number, strategy in enumerate(STRATEGIES)}
    needs = frozenset(need for member in members.values() for need in member.needs())
    logics = [
        Features(bars="1m").providing(needs).build(Context(name="features")),
        next(iter(members.values())).build_group(members, Context(name="p_*")),
    ]
    for logic in logics:
        logic.warm()
    return logics


def work(logics: list[Any], batches: list[Batch], *, ends: bool) -> list[str]:
    """Hashes of all that comes out at the end of the chain."""
    features, group = logics
    given: list[Any] = []
    bars: list[Batch] = []
    for batch in batches:
        features.on_batch(batch)
        bars += features.on_watermark(Watermark(batch.max_ts))
    bars += features.on_end() if ends else []
    for batch in bars:
        given += group.on_batch(batch)
    given += group.on_end() if ends else []
    told = [str(hash_value(each.columns)) for each in given if isinstance(each, Batch | MemberRows)]
    return [*told, repr(group.metrics()), repr(features.metrics())]


def market() -> list[Batch]:
    return list(Synthetic(schema="trade", rows=6_000, interval="1s", seed=4, batch_rows=500).build(Context()).batches())


def test_r6_a_state_is_all_that_another_process_needs(tmp_path: Path) -> None:
    before, after = market()[:7], market()[7:]
    logics = stages()
    work(logics, before, ends=False)
    for number, logic in enumerate(logics):
        (tmp_path / f"{number}.state").write_bytes(packed(logic.snapshot()))
    expected = work(logics, after, ends=True)
    assert len(expected) == 6, "fills, equity, statistics, rows, and what both say of it"
    said = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert said.stdout.splitlines() == expected


if __name__ == "__main__":
    restored = stages()
    for number, logic in enumerate(restored):
        logic.restore(unpacked((Path(sys.argv[1]) / f"{number}.state").read_bytes()))
    print("\n".join(work(restored, market()[7:], ends=True)))
