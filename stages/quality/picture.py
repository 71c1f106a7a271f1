"""Quality events over time, an instrument a line: where people would rather look than read."""

from __future__ import annotations

import json
from html import escape
from typing import Any

import pyarrow as pa

from pipeline import PenstockError
from stages.schemas import HOLES, NOBODY, QUALITY_KINDS

MAX_POINTS = 20_000
"""Events that are drawn; of more, the first of equal parts, which the page says."""
COLOURS = {
    "gap": "#c0392b", "checksum": "#8e44ad", "crossed": "#d35400", "parse_error": "#e67e22", "stale": "#7f8c8d",
    "disconnect": "#2c3e50", "reconnect": "#34495e", "resync": "#27ae60", "duplicate": "#2980b9",
    "out_of_order": "#16a085",
}  # fmt: skip
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;margin:2rem;color:#222}}h1{{font-size:1.3rem}}</style>
<script>{script}</script></head><body><h1>{title}</h1><p>{words}</p><div id="plot"></div>
<script>Plotly.newPlot("plot", {data}, {layout}, {{displaylogo: false, responsive: true}});</script></body></html>
"""


def draw_events(events: pa.Table, title: str) -> str:
    """One page that needs nothing else. Raises `PenstockError` where plotly is not installed."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise PenstockError("a plot needs plotly; install it with: pip install 'penstock[report]'") from error
    rows = events.select(["ts_recv", "instrument_id", "kind", "gap_start", "gap_end", "missing", "detail"]).to_pylist()
    step = -(-len(rows) // MAX_POINTS) or 1
    words = f"{len(rows):,} events" + (f", of which every {step}th is drawn" if step > 1 else "")
    drawn = rows[::step]
    names = sorted({row["instrument_id"] or NOBODY for row in drawn}, reverse=True)
    layout = {
        "height": max(320, 90 + 34 * len(names)),
        "margin": {"l": 160, "r": 20, "t": 20, "b": 50},
        "yaxis": {"type": "category", "categoryarray": names, "categoryorder": "array"},
        "xaxis": {"type": "date", "title": "received (UTC)"},
        "legend": {"orientation": "h"},
    }
    data = [*_holes(drawn), *_points(drawn)]
    return PAGE.format(
        title=escape(title), words=escape(words), script=get_plotlyjs(), data=_json(data), layout=_json(layout)
    )


def _points(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One trace for each kind of event."""
    traces = []
    for kind in QUALITY_KINDS:
        own = [row for row in rows if row["kind"] == kind]
        if own:
            traces.append(
                {
                    "type": "scatter", "mode": "markers", "name": kind, "marker": {"color": COLOURS.get(kind, "#555")},
                    "x": [_time(row["ts_recv"]) for row in own],
                    "y": [row["instrument_id"] or NOBODY for row in own],
                    "text": [_said(row) for row in own],
                    "hovertemplate": "%{x}<br>%{text}<extra>%{fullData.name}</extra>",
                }
            )  # fmt: skip
    return traces


def _holes(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each stretch without data."""
    x: list[str | None] = []
    y: list[str | None] = []
    for row in rows:
        if row["kind"] in HOLES and row["gap_start"] is not None and row["gap_end"] is not None:
            name = row["instrument_id"] or NOBODY
            x += [_time(row["gap_start"]), _time(row["gap_end"]), None]
            y += [name, name, None]
    line = {"color": "#c0392b", "width": 6}
    return (
        [{"type": "scatter", "mode": "lines", "name": "no data", "x": x, "y": y, "line": line, "opacity": 0.4}]
        if x
        else []
    )


def _said(row: dict[str, Any]) -> str:
    parts = [f"{row['missing']:,} missing" if row["missing"] else "", escape((row["detail"] or "")[:200])]
    return "<br>".join(part for part in parts if part)


def _time(stamp: Any) -> str:
    text: str = stamp.isoformat()
    return text


def _json(value: Any) -> str:
    """JSON that may stand in a script: nothing in it ends one."""
    return json.dumps(value).replace("<", "\\u003c")
