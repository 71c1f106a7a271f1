"""What `penstock quality` shows of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline import Report

from .finding import find_events
from .picture import draw_events
from .table import count_events

LATEST = 5
"""Events that are shown one by one below the table."""


def market_quality(folder: Path, every_ns: int | None, plot: bool) -> Report | None:
    """The quality events in a run's or recording's folder as a table; None where there is no file of such."""
    events = find_events(folder)
    if events is None:
        return None
    table = count_events(events, every_ns)
    title = f"{folder}: {len(events):,} quality events" if len(events) else f"{folder}: nothing is wrong"
    return Report(
        table=table,
        title=title,
        words=[("latest", _said(event)) for event in events.slice(max(0, len(events) - LATEST)).to_pylist()],
        html=draw_events(events, f"Quality of {folder.resolve().name}") if plot else "",
    )


def _said(event: dict[str, Any]) -> str:
    about = event["instrument_id"] or event["channel"] or ""
    words = [str(event["ts_recv"])[:26], str(event["kind"]), str(about)]
    if event["missing"]:
        words.append(f"{event['missing']:,} missing")
    if event["detail"]:
        words.append(str(event["detail"])[:120])
    return "  ".join(word for word in words if word)
