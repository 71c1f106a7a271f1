"""Sets the page: everything in one file, escaped, that needs no network and no other file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from .doubts import Doubt
from .drawing import Plot, missing
from .headline import Figure
from .tables import Table

FOLDER = files(__package__) / "setting"


@dataclass(frozen=True)
class Shown:
    """A plot or a table with what is said about it."""

    caption: str
    plot: Plot | None = None
    table: Table | None = None


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    name: str
    intro: str = ""
    shown: Sequence[Shown] = ()
    folded: bool = False
    """Whether it opens on demand."""


@dataclass(frozen=True)
class Page:
    """Everything the page says."""

    title: str
    subtitle: str
    facts: Mapping[str, str]
    """Label -> words below the title."""
    chosen: str
    """Name of the portfolio the page is about, empty where there is none."""
    chosen_in: str
    """How it came to be that."""
    parameters: Mapping[str, str]
    """Its parameters."""
    headline: Sequence[Figure]
    doubts: Sequence[Doubt]
    sections: Sequence[Section] = field(default_factory=tuple)
    version: str = ""

    @property
    def plots(self) -> Sequence[Plot]:
        return [each.plot for section in self.sections for each in section.shown if each.plot is not None]


def html_of(page: Page) -> str:
    """The page as one text.

    plotly.js is set into it once, whole (4.8 MB; 1.5 MB zipped): its wheel ships no smaller bundle, and a report should
    open in ten years without asking anybody. A page without plots does without it. Raises `PenstockError` where plotly
    or jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise missing(error) from error
    setting = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return setting.from_string(_read("page.html")).render(
        page=page,
        style=Markup(_read("page.css")),
        script=Markup(_read("page.js")),
        plotly=Markup(get_plotlyjs()) if page.plots else "",
        figures=Markup(embedded({plot.name: plot.figure for plot in page.plots})),
    )


def embedded(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return (
        text.replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
