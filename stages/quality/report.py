"""What `penstock quality` shows of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import Report

from .finding import find_events, summed
from .picture import draw_events
from .table import count_events

LATEST = 5
"""Events that are shown one by one below the table."""


def market_quality(folder: Path, every_ns: int | None, plot: bool) -> Report | None:
    """The quality events in a run's or recording's folder as a table; None where there is no file of such."""
    events = find_events(folder)
    if events is None:
        return _by_summaries(folder)
    table = count_events(events, every_ns)
    title = f"{folder}: {len(events):,} quality events" if len(events) else f"{folder}: nothing is wrong"
    return Report(
        table=table,
        title=title,
        words=[("latest", _said(event)) for event in events.slice(max(0, len(events) - LATEST)).to_pylist()],
        html=draw_events(events, f"Quality of {folder.resolve().name}") if plot else "",
    )


def _by_summaries(folder: Path) -> Report | None:
    """What summaries tell in all, where no event was kept, or there was none."""
    found = list(summed(folder))
    if not found:
        return None
    rows = [row for _, _, rows in found for row in rows]
    names = list(dict.fromkeys(name for row in rows for name in row))
    messages = sum(messages for _, messages, _ in found)
    return Report(
        html="",
        table=pa.table({name: [row.get(name, 0) for row in rows] for name in names}),
        title=f"{folder}: {'' if rows else 'nothing is wrong with '}{messages:,} messages",
        words=[("summary", str(path)) for path, _, _ in found],
    )


def _said(event: dict[str, Any]) -> str:
    about = event["instrument_id"] or event["channel"] or ""
    words = [str(event["ts_recv"])[:26], str(event["kind"]), str(about)]
    if event["missing"]:
        words.append(f"{event['missing']:,} missing")
    if event["detail"]:
        words.append(str(event["detail"])[:120])
    return "  ".join(word for word in words if word)
