"""The plots of the page, as plotly's figures; their colours are names the page resolves for light and dark."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline import PenstockError

from .curves import Curve
from .space import Landscape

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

INK, SOFT, RULE, ACCENT, FAINT, CARD = (f"var(--{name})" for name in ("ink", "soft", "rule", "accent", "faint", "card"))
MOST_MARKS = 2_000
"""Points of a scatter plot."""
MOST_BINS = 40
MOST_WORDS = 120
"""Cells of a heat map that are also written out."""


@dataclass(frozen=True)
class Plot:
    """One figure of the page."""

    name: str
    """Its id."""
    figure: Mapping[str, Any]
    """`data` and `layout` for plotly.js."""
    height: int = 320
    """Pixels on a desktop; a phone shows it a little lower."""


def graph_objects() -> Any:
    """plotly's figures; raises `PenstockError` where the extra is not installed."""
    try:
        import plotly.graph_objects
    except ImportError as error:
        raise missing(error) from error
    return plotly.graph_objects


def missing(error: ImportError) -> PenstockError:
    """What to do about a library the report needs."""
    return PenstockError(f"a report needs plotly and jinja2 ({error}); try: pip install 'penstock[report]'")


def equity_plot(name: str, curves: Mapping[str, Curve]) -> Plot:
    """Equity as a multiple of the start; the first curve is what it is about."""
    go = graph_objects()
    figure = _figure(y={"title": "equity / start", "tickformat": ".3~f"})
    for place, (label, curve) in enumerate(curves.items()):
        shown = curve.thinned()
        values = [float(curve.equity[at] / curve.start) for at in shown]
        figure.add_trace(
            go.Scatter(
                x=_times(curve, shown),
                y=values,
                name=_safe(label),
                mode="lines",
                line=_line(place),
                hovertemplate="%{y:.4f}",
            )
        )
    figure.update_layout(hovermode="x unified")
    return Plot(name, _plain(figure))


def drawdown_plot(name: str, curves: Mapping[str, Curve]) -> Plot:
    """How far below the highest equity so far, in percent."""
    go = graph_objects()
    figure = _figure(y={"title": "drawdown", "tickformat": ".0%", "rangemode": "tozero"})
    for place, (label, curve) in enumerate(curves.items()):
        shown, falls = curve.thinned(), curve.drawdown()
        fill = {"fill": "tozeroy", "fillcolor": FAINT} if not place else {}
        figure.add_trace(
            go.Scatter(
                x=_times(curve, shown), y=[float(falls[at]) for at in shown], name=_safe(label), mode="lines",
                line=_line(place), hovertemplate="%{y:.2%}", **fill,
            )
        )  # fmt: skip
    figure.update_layout(hovermode="x unified")
    return Plot(name, _plain(figure), height=220)


def landscape_plot(found: Landscape, objective: str, *, lower: bool) -> Plot:
    """A heat map over two parameters, a line over one; the best is framed."""
    return _line_over(found, objective) if found.y is None else _heat_map(found, objective, lower=lower)


def _line_over(found: Landscape, objective: str) -> Plot:
    go = graph_objects()
    figure = _figure(x={"title": found.x.name, "type": "category"}, y={"title": objective})
    places = sorted(found.cells)
    labels = [_safe(found.x.labels[x]) for x, _ in places]
    values = [found.cells[place][0] for place in places]
    names = [_safe(found.cells[place][1]) for place in places]
    figure.add_trace(
        go.Scatter(
            x=labels, y=values, text=names, mode="lines+markers", line=_line(0), name=objective,
            marker={"size": [13 if place == found.best else 6 for place in places], "color": ACCENT},
            hovertemplate=f"{_safe(found.x.name)} %{{x}}<br>{objective} %{{y:.4g}}<br>%{{text}}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(showlegend=False)
    return Plot("landscape", _plain(figure))


def _heat_map(found: Landscape, objective: str, *, lower: bool) -> Plot:
    go = graph_objects()
    assert found.y is not None
    width, depth = len(found.x.labels), len(found.y.labels)
    cells = [[found.cells.get((x, y)) for x in range(width)] for y in range(depth)]
    few = width * depth <= MOST_WORDS
    figure = _figure(
        x={"title": found.x.name, "type": "category", "showgrid": False},
        y={"title": found.y.name, "type": "category", "showgrid": False},
    )
    figure.add_trace(
        go.Heatmap(
            x=[_safe(label) for label in found.x.labels], y=[_safe(label) for label in found.y.labels],
            z=[[cell and cell[0] for cell in line] for line in cells],
            customdata=[[_safe(cell[1]) if cell else "" for cell in line] for line in cells],
            texttemplate="%{z:.3~g}" if few else "",
            colorscale=[[0.0, ACCENT], [1.0, FAINT]] if lower else [[0.0, FAINT], [1.0, ACCENT]],
            xgap=1, ygap=1, hoverongaps=False,
            colorbar={"thickness": 10, "outlinewidth": 0, "title": {"text": objective, "side": "right"}},
            hovertemplate=(
                f"{_safe(found.x.name)} %{{x}}<br>{_safe(found.y.name)} %{{y}}<br>"
                f"{objective} %{{z:.4g}}<br>%{{customdata}}<extra></extra>"
            ),
        )
    )  # fmt: skip
    x, y = found.best
    figure.add_shape(
        type="rect", x0=x - 0.5, x1=x + 0.5, y0=y - 0.5, y1=y + 0.5, line={"color": INK, "width": 2}
    )  # fmt: skip
    return Plot("landscape", _plain(figure), height=min(640, 200 + 22 * depth))


def spread_plot(values: Sequence[float], marks: Mapping[str, float], objective: str) -> Plot:
    """How many portfolios have how much of the objective; `marks` are lines across."""
    go = graph_objects()
    lowest, highest = min(values), max(values)
    bins = max(1, min(MOST_BINS, round(2 * len(values) ** 0.5)))
    width = (highest - lowest) / bins or 1.0
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - lowest) / width))] += 1
    figure = _figure(x={"title": objective}, y={"title": "portfolios", "rangemode": "tozero"})
    figure.add_trace(
        go.Bar(
            x=[lowest + (place + 0.5) * width for place in range(bins)], y=counts, width=[width * 0.92] * bins,
            marker={"color": ACCENT, "opacity": 0.55}, hovertemplate="%{y} around %{x:.4g}<extra></extra>",
        )
    )  # fmt: skip
    for place, (label, value) in enumerate(marks.items()):
        line = (
            {"width": 1.5, "color": INK, "dash": "solid"} if not place else {"width": 1.5, "color": SOFT, "dash": "dot"}
        )
        figure.add_vline(x=value, line=line)
        figure.add_annotation(
            x=value, y=1, yref="paper", yanchor="bottom", text=label, showarrow=False, font={"color": SOFT, "size": 11},
            xanchor="right" if value > (lowest + highest) / 2 else "left", yshift=2 + 14 * place,
        )  # fmt: skip
    figure.update_layout(showlegend=False, margin={"t": 24 + 14 * len(marks)})
    return Plot("spread", _plain(figure), height=280)


def in_and_out_plot(
    points: Sequence[tuple[float, float, str]], best: Sequence[tuple[float, float, str]], objective: str
) -> Plot:
    """Objective before against after, a point for each portfolio; on the dotted line both are alike."""
    go = graph_objects()
    figure = _figure(x={"title": f"{objective} in sample"}, y={"title": f"{objective} out of sample"})
    before_all = [before for before, _, _ in points]
    ends = [min(before_all), max(before_all)]
    figure.add_trace(
        go.Scatter(
            x=ends, y=ends, mode="lines", name="no change", hoverinfo="skip",
            line={"color": SOFT, "width": 1, "dash": "dot"},
        )
    )  # fmt: skip
    for label, some, marker in (
        ("portfolios", points, {"color": ACCENT, "size": 6, "opacity": 0.5}),
        ("best in sample", best, {"color": INK, "size": 12, "symbol": "diamond-open", "line": {"width": 2}}),
    ):
        figure.add_trace(
            go.Scatter(
                x=[before for before, _, _ in some], y=[after for _, after, _ in some],
                text=[_safe(name) for *_, name in some], mode="markers",
                name=label, marker=marker, hovertemplate="%{text}<br>in %{x:.4g}, out %{y:.4g}<extra></extra>",
            )
        )  # fmt: skip
    return Plot("in-and-out", _plain(figure), height=380)


def _figure(*, x: Mapping[str, Any] | None = None, y: Mapping[str, Any] | None = None) -> Figure:
    """An empty figure in the page's dress."""
    axis = {"gridcolor": RULE, "zerolinecolor": RULE, "linecolor": RULE, "automargin": True, "title": {"standoff": 8}}

    def dressed(given: Mapping[str, Any] | None) -> dict[str, Any]:
        asked = dict(given or {})
        title = {"text": _safe(asked.pop("title", "")), "standoff": 8}
        return {**axis, **asked, "title": title}

    figure = graph_objects().Figure()
    figure.update_layout(
        template="none", font={"color": INK, "size": 12}, paper_bgcolor=CARD, plot_bgcolor=CARD,
        margin={"l": 8, "r": 8, "t": 12, "b": 8}, xaxis=dressed(x), yaxis=dressed(y), dragmode=False,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        hoverlabel={"bgcolor": CARD, "bordercolor": RULE, "font": {"color": INK}},
    )  # fmt: skip
    return figure


def _line(place: int) -> dict[str, Any]:
    return {"color": ACCENT, "width": 2} if not place else {"color": SOFT, "width": 1.2}


def _times(curve: Curve, shown: Sequence[int]) -> list[str]:
    return [str(curve.times[at].astype("datetime64[s]")) for at in shown]


def _safe(text: str) -> str:
    """Text for plotly, which takes some tags for its own."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _plain(figure: Figure) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(figure.to_json())
    return found
