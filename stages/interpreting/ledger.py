"""What came of a stream of messages, counted for the summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stages.messages import Messages


class Ledger:
    """Messages, rows by kind of record, and quality events by kind."""

    def __init__(self) -> None:
        self.messages = 0
        self.rows: Counter[str] = Counter()
        self.events: Counter[str] = Counter()

    def count(self, messages: Messages, batches: Sequence[pa.RecordBatch]) -> None:
        self.messages += len(messages)
        for batch in batches:
            record = batch.schema.metadata[b"record"].decode()
            self.rows[record] += batch.num_rows
            if record == "quality_event":
                counted = pc.value_counts(batch.column("kind"))
                for each in counted.to_pylist():
                    self.events[each["values"]] += each["counts"]

    def figures(self) -> dict[str, Any]:
        """For the summary's `aggregate_metrics`."""
        return {
            "messages": self.messages,
            "rows": dict(sorted(self.rows.items())),
            "quality": dict(sorted(self.events.items())),
        }

    def snapshot(self) -> dict[str, Any]:
        return {"messages": self.messages, "rows": dict(self.rows), "events": dict(self.events)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.messages, self.rows = state["messages"], Counter(state["rows"])
        self.events = Counter(state["events"])
