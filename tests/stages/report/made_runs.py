"""Runs made without running: real rankings and files of as many portfolios, phases and oddities as a test wants."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.stage import Context
from pipeline.summary import ContainerLedger, ContainerResult, EdgeLedger, KeyResult, Ledger, PhaseSummary
from stages.execution.execution import Execution
from stages.portfolio.accounting import opening_state
from stages.portfolio.equity import DAY
from stages.portfolio.records import equity_of
from stages.portfolio.statistics import StatisticsSettings, statistics
from tests.stages.portfolio_rows import rows_sent

BEGIN = 1_704_067_200_000_000_000
"""2024-01-01."""
START = 100_000.0


def grid(**values: Sequence[Any]) -> list[dict[str, Any]]:
    """All combinations, the last name fastest."""
    found: list[dict[str, Any]] = [{}]
    for name, each in values.items():
        found = [{**before, name: value} for before in found for value in each]
    return found


class MadeRun:
    """A run's folder, filled phase by phase."""

    def __init__(self, folder: Path, name: str = "made") -> None:
        self.folder, self.name = folder, name
        self.rankings: dict[str, pa.RecordBatch] = {}

    def phase(
        self,
        name: str,
        parameters: Sequence[Mapping[str, Any]],
        *,
        objective: str = "sharpe",
        strategy: str = "SmaCross",
        days: int = 200,
        first_day: int = 0,
        seed: int = 1,
        names: Sequence[str] | None = None,
        errors: Mapping[int, str] | None = None,
        idle: Sequence[int] = (),
        baseline: bool = True,
        earlier: str | None = None,
        keep_equity: bool = True,
        status: str = "complete",
    ) -> Path:
        """Add a phase whose portfolios' equity walks at random, `idle` ones not at all; gives its folder.

        `earlier` names the phase it selects from. Drift depends on the parameters, so that neighbours are alike.
        """
        names = names or [f"portfolio_{place:04d}" for place in range(len(parameters))]
        dice = np.random.default_rng(seed)
        market = dice.normal(0.0004, 0.011, days)
        times = BEGIN + DAY * np.arange(first_day + 1, first_day + days + 1)
        returns = [self._returns(each, market, dice) for each in parameters]
        for place in idle:
            returns[place] = np.zeros(days)
        rows: list[dict[str, Any]] = []
        kept: list[pa.Table] = []
        everyone = [*zip(names, returns, parameters, strict=True)]
        if baseline:
            everyone.append(("portfolio_baseline", market, {"quantity": 1.0}))
        for place, (portfolio, moves, told) in enumerate(everyone):
            is_baseline = portfolio.endswith("_baseline")
            row = {
                "container": portfolio,
                "baseline": is_baseline,
                "strategy": "BuyAndHold" if is_baseline else strategy,
                "parameters": json.dumps(dict(told)),
                "instrument_id": "BTCUSD.COINBASE",
            }
            if not is_baseline and place in (errors or {}):
                rows.append(row | {"error": (errors or {})[place]})
                continue
            equity = START * np.cumprod(1 + moves)
            rows.append(
                row | {"ts_event": int(times[-1])} | self._figures(equity, times, int(100 * abs(moves[0]) * 60))
            )
            table = pa.Table.from_batches([equity_of(times, equity, "1d")])
            kept.append(table.add_column(0, "container", pa.array([portfolio] * days)))
        logic: Any = Execution(objective=objective).build(
            Context(
                name="execution",
                earlier={earlier: {"execution": {"ranking": self.rankings[earlier]}}} if earlier else {},
            )
        )
        logic.on_batch(rows_sent(rows))
        result, _ = logic.on_end()
        self.rankings[name] = result.value
        return self._write(name, result.value, kept if keep_equity else [], logic.metrics(), status, days, len(rows))

    def _returns(self, parameters: Mapping[str, Any], market: Any, dice: Any) -> Any:
        numbers = [float(value) for value in parameters.values() if isinstance(value, int | float)]
        edge = sum(np.sin(value / (7 + 3 * place)) for place, value in enumerate(numbers)) * 0.0004
        return market * 0.3 + dice.normal(edge, 0.007, len(market))

    def _figures(self, equity: Any, times: Any, trades: int) -> dict[str, Any]:
        state = opening_state([START])
        own = state[0]
        own["bars"], own["equity"], own["equity_sum"] = len(equity), equity[-1], equity.sum()
        peaks = np.maximum.accumulate(np.append(START, equity))[1:]
        own["max_drawdown"] = max(0.0, float((1 - equity / peaks).max()))
        own["trades"] = trades
        own["wins"], own["losses"] = trades // 2, trades - trades // 2
        own["won"], own["lost"] = trades * 90.0, trades * -70.0
        own["begun"], own["ended"], own["exposed"] = 0, 100, 61
        own["max_leverage"], own["gross_sum"], own["net_sum"] = 0.55, 0.3 * len(equity), 0.1 * len(equity)
        own["fees"], own["fills"], own["orders"] = trades * 3.1, 2 * trades, 2 * trades
        (found,) = statistics(state, times, equity[None, :], "1d", float(DAY), START, StatisticsSettings())
        return found

    def _write(
        self,
        name: str,
        ranking: pa.RecordBatch,
        kept: Sequence[pa.Table],
        metrics: Any,
        status: str,
        days: int,
        rows: int,
    ) -> Path:
        folder = self.folder / name
        files = folder / "containers"
        (files / "execution").mkdir(parents=True)
        pq.write_table(pa.Table.from_batches([ranking]), files / "execution" / "ranking.parquet")
        keys = {}
        if kept:
            (files / "portfolio").mkdir(parents=True)
            pq.write_table(pa.concat_tables(kept).sort_by("container"), files / "portfolio" / "equity.parquet")
            keys = {"equity": KeyResult(rows=1, hash="e0", path="containers/portfolio/equity.parquet")}
        ranked = {"ranking": KeyResult(rows=rows, hash="f1", path="containers/execution/ranking.parquet")}
        flow = [("data", "portfolio", days), ("portfolio", "execution", rows)]
        books = {"data": (0, days), "portfolio": (days, rows), "execution": (rows, rows)}
        containers = (("portfolio", "group", rows, keys), ("execution", "transform", 0, ranked))
        hashes = {"configuration": "c" * 32, "code": "d" * 32, "data": "a" * 32}
        summary = PhaseSummary(
            format=1,
            name=self.name,
            phase=name,
            status=status,
            container_results={
                container: ContainerResult(kind=kind, received_rows=days, sent_rows=rows, members=members, keys=left)
                for container, kind, members, left in containers
            },
            aggregate_metrics={"portfolio": {"bars": days}, "execution": metrics},
            ledger=Ledger(
                edges=[
                    EdgeLedger(source=source, target=target, sent=sent, received=sent, dropped=0, in_flight=0)
                    for source, target, sent in flow
                ],
                containers={
                    container: ContainerLedger(received=received, processed=received, late=0, sent=sent)
                    for container, (received, sent) in books.items()
                },
            ),
            hashes={**hashes, "output": f"{len(self.rankings):032d}"},
        )
        names = sorted(ranking.column("container").to_pylist())
        pq.write_table(pa.table({"name": names, "group": ["portfolio"] * rows}), folder / "containers.parquet")
        (folder / "summary.json").write_bytes(msgspec.json.encode(summary))
        store = {"evicted_bytes": 0}
        record = {
            "status": status,
            "version": "0.1.0",
            "started_ns": 1_764_000_000_000_000_000 + len(self.rankings) * 10**9,
            "wall_seconds": 2.5,
            "cpu_seconds": 3.25,
            "process_peak_rss_bytes": 210 * 2**20,
            "loop_lag_p99_ms": 3.4,
            "containers": {"data": {"kind": "feed", "sent_rows": days, "store": store}},
        }
        (folder / "run.json").write_bytes(msgspec.json.encode(record))
        return folder
