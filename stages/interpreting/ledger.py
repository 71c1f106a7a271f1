"""What came of a stream of messages, counted for the summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from stages.messages import Messages
from stages.schemas import HOLES, NOBODY


class Ledger:
    """Messages, rows by kind of record, quality events by instrument and kind, and how late rows came.

    All of it is whole numbers, so that how messages were cut changes nothing.
    """

    def __init__(self) -> None:
        self.messages = 0
        self.rows: Counter[str] = Counter()
        self.events: dict[str, Counter[str]] = {}
        self.missing: Counter[str] = Counter()
        self.missing_ns: Counter[str] = Counter()
        self.delays: dict[str, list[int]] = {}
        """By kind of record: rows with an event time, those received before it, and sum, smallest and largest delay."""

    def count(self, messages: Messages, batches: Mapping[str, pa.RecordBatch]) -> None:
        """A run of messages and what came of it, by kind of record."""
        self.messages += len(messages)
        for record, batch in batches.items():
            self.rows[record] += batch.num_rows
            if record == "quality_event":
                self._count_events(batch)
            elif record != "bar":
                self._count_delays(record, batch)

    def figures(self) -> dict[str, Any]:
        """For the summary's `aggregate_metrics`."""
        totals = sum(self.events.values(), Counter())
        return {
            "messages": self.messages,
            "rows": dict(sorted(self.rows.items())),
            "quality": dict(sorted(totals.items())),
            "quality_by_instrument": {name: self._of(name) for name in sorted(self.events)},
            "delay_ms": {
                record: {"min": low / 1e6, "mean": total // rows / 1e6, "max": high / 1e6, "negative_rows": negative}
                for record, (rows, negative, total, low, high) in sorted(self.delays.items())
            },
        }

    def _of(self, name: str) -> dict[str, Any]:
        return {
            **dict(sorted(self.events[name].items())),
            "missing": self.missing[name],
            "missing_seconds": self.missing_ns[name] / 1e9,
        }

    def _count_events(self, batch: pa.RecordBatch) -> None:
        for event in batch.select(["instrument_id", "kind", "missing"]).to_pylist():
            name = event["instrument_id"] or NOBODY
            self.events.setdefault(name, Counter())[event["kind"]] += 1
            self.missing[name] += event["missing"] or 0
        starts, ends = (batch.column(name).view(pa.int64()).to_pylist() for name in ("gap_start", "gap_end"))
        kinds, names = batch.column("kind").to_pylist(), batch.column("instrument_id").to_pylist()
        for kind, name, start, end in zip(kinds, names, starts, ends, strict=True):
            if kind in HOLES and start is not None and end is not None:
                self.missing_ns[name or NOBODY] += end - start

    def _count_delays(self, record: str, batch: pa.RecordBatch) -> None:
        events, received = (batch.column(name).view(pa.int64()) for name in ("ts_event", "ts_recv"))
        if events.null_count == len(events):
            return
        if events.null_count:
            told = events.is_valid()
            events, received = events.filter(told), received.filter(told)
        delays = received.to_numpy() - events.to_numpy()
        seen = [len(delays), int((delays < 0).sum()), int(delays.sum()), int(delays.min()), int(delays.max())]
        known = self.delays.get(record)
        if known is not None:
            seen = [
                *(a + b for a, b in zip(known[:3], seen, strict=False)),
                min(known[3], seen[3]),
                max(known[4], seen[4]),
            ]
        self.delays[record] = seen

    def snapshot(self) -> dict[str, Any]:
        return {
            "messages": self.messages,
            "rows": dict(self.rows),
            "events": {name: dict(kinds) for name, kinds in self.events.items()},
            "missing": dict(self.missing),
            "missing_ns": dict(self.missing_ns),
            "delays": {record: list(seen) for record, seen in self.delays.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.messages, self.rows = state["messages"], Counter(state["rows"])
        self.events = {name: Counter(kinds) for name, kinds in state["events"].items()}
        self.missing, self.missing_ns = Counter(state["missing"]), Counter(state["missing_ns"])
        self.delays = {record: list(seen) for record, seen in state["delays"].items()}
