"""What the phases of a backtest have left, as the report looks at them: who follows whom, who was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import msgspec
import pyarrow as pa

from pipeline import InputError, PhaseResults
from stages.portfolio.statistics import STATISTICS

RANKING = "ranking"


@dataclass(frozen=True)
class Examined:
    """One phase that ranked portfolios."""

    left: PhaseResults
    container: str
    """Which did the ranking."""
    figures: Mapping[str, Any]
    """As `execution.figures.figures` made them."""

    @property
    def name(self) -> str:
        return self.left.summary.phase

    @property
    def objective(self) -> str:
        return str(self.figures["objective"])

    @property
    def lower(self) -> bool:
        """Whether less of the objective is better."""
        return STATISTICS[self.objective].better == "lower"

    @cached_property
    def ranking(self) -> pa.Table:
        return self.left[self.container][RANKING]

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The ranking's rows, best first, baselines among them."""
        rows: list[dict[str, Any]] = self.ranking.to_pylist()
        return rows

    @property
    def rivals(self) -> list[dict[str, Any]]:
        """Rows of what ran and is no baseline."""
        return [row for row in self.rows if not row["baseline"] and row["error"] is None]

    @property
    def failed(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["error"] is not None]

    def row(self, portfolio: str | None) -> dict[str, Any] | None:
        """The row of a portfolio, None where it has none."""
        return next((row for row in self.rows if row["container"] == portfolio), None)

    @cached_property
    def baseline(self) -> dict[str, Any] | None:
        """The row the best is held against."""
        told = self.figures.get("baseline")
        return self.row(told["portfolio"]) if told else None

    @property
    def parent(self) -> str | None:
        """The phase this one takes its portfolios from."""
        chosen = _plain(getattr(self.left.summary, "selection", None))
        if chosen and chosen.get("phase"):
            return str(chosen["phase"])
        return next(reversed(self.figures.get("earlier") or {}), None)

    @property
    def window(self) -> str:
        """The time this phase looks at, empty where all of it."""
        told = _plain(getattr(self.left.summary, "window", None))
        begin, end = (_moment(told.get(name)) for name in ("from", "until")) if told else ("", "")
        if begin and end:
            return f"{begin} to {end}"
        return f"from {begin}" if begin else f"until {end}" if end else ""

    def chosen(self) -> dict[str, Any] | None:
        """The portfolio this phase stands for: of those selected the one that was best before, else its own best."""
        earlier = (self.figures.get("earlier") or {}).get(self.parent)
        if earlier and earlier["best"]:
            return self.row(earlier["best"]["portfolio"])
        return self.row(self.figures["best"]["portfolio"]) if self.figures["best"] else None


def examine(phases: Sequence[PhaseResults]) -> list[Examined]:
    """Those of the phases that ranked portfolios; raises `InputError` where a ranking was not kept."""
    found = []
    for left in phases:
        for container, figures in left.summary.aggregate_metrics.items():
            if {"objective", "best", "portfolios"} <= set(figures):
                kept = left.summary.container_results[container].keys.get(RANKING)
                if kept is None or kept.path is None:
                    raise InputError(
                        f"'{container}' of phase '{left.summary.phase}' has not kept its ranking; "
                        "run it with `persistence: {on_completion: true}`"
                    )
                found.append(Examined(left, container, figures))
                break
    return found


def search_of(phase: Examined, phases: Sequence[Examined]) -> Examined:
    """The phase in which the portfolios of this one were sought: whose selection it is, of whatever generation."""
    by_name = {each.name: each for each in phases}
    seen = {phase.name}
    while phase.parent in by_name and phase.parent not in seen:
        seen.add(phase.parent)
        phase = by_name[phase.parent]
    return phase


def followers(phases: Sequence[Examined]) -> list[tuple[Examined, Examined]]:
    """Pairs of a phase and the one that takes its portfolios from it, in the order they ran."""
    by_name = {each.name: each for each in phases}
    return [(by_name[each.parent], each) for each in phases if each.parent in by_name and each.parent != each.name]


def _plain(given: Any) -> dict[str, Any]:
    found = msgspec.to_builtins(given) if given is not None else None
    return found if isinstance(found, dict) else {}


def _moment(given: Any) -> str:
    """A time as a summary has it (ISO text or ns UTC), to the minute; a day where it is midnight."""
    if given is None:
        return ""
    if isinstance(given, int):
        given = datetime.fromtimestamp(given // 1_000_000_000, UTC).isoformat()
    text = str(given).replace("T", " ").removesuffix("Z").removesuffix("+00:00")
    return text.removesuffix(":00").removesuffix(" 00:00") if text.endswith(":00") else text
