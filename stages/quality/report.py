"""What `penstock quality` shows of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import InputError, Report

from .finding import NO_EVENTS, find_events, meant, summed
from .picture import draw_events
from .table import count_events

LATEST = 5
"""Events that are shown one by one below the table."""


def market_quality(folder: Path, every_ns: int | None, plot: bool) -> Report | None:
    """The quality events in a run's or recording's folder as a table; None where there is no file of such.

    A folder of several runs of one name stands for the latest of them, since each would tell of the same data.
    """
    given, folder = folder, meant(folder)
    events = find_events(folder)
    if events is None:
        return _by_summaries(folder, given, every_ns, plot)
    table = count_events(events, every_ns)
    title = f"{given}: {len(events):,} quality events" if len(events) else f"{given}: nothing is wrong"
    return Report(
        table=table,
        title=title,
        words=[("latest", _said(event)) for event in events.slice(max(0, len(events) - LATEST)).to_pylist()],
        html=draw_events(events, f"Quality of {given.resolve().name}") if plot else "",
    )


def _by_summaries(folder: Path, given: Path, every_ns: int | None, plot: bool) -> Report | None:
    """What summaries tell in all, where no event was kept, or there was none.

    Raises `InputError` where windows or a picture are asked for, which need the events.
    """
    found = list(summed(folder))
    if not found:
        return None
    rows = [row for _, _, rows in found for row in rows]
    names = list(dict.fromkeys(name for row in rows for name in row))
    messages = sum(messages for _, messages, _ in found)
    if rows and (plot or every_ns is not None):
        raise InputError(
            f"{given}: expected quality events for --every and --plot, found only the counts of {found[0][0]}; keep "
            "events with `data_flow: {mode: file}` on the feed, or write them with a sink whose input has `records: "
            "quality_event`, and run it again"
        )
    return Report(
        html=draw_events(NO_EVENTS, f"Quality of {given.resolve().name}") if plot else "",
        table=pa.table({name: [row.get(name, 0) for row in rows] for name in names}),
        title=f"{given}: {'' if rows else 'nothing is wrong with '}{messages:,} messages",
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
