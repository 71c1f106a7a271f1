"""Walking forward: what was chosen for each window, through the windows one after the other, as one history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline import PhaseResults

from .curves import Curve, curve_of, stitched
from .examined import Examined

Followers = Sequence[tuple[Examined, Examined]]
EQUITY = "equity"


@dataclass(frozen=True)
class Windows:
    """Several out-of-sample windows in a row."""

    count: int
    chosen: Curve
    baseline: Curve | None
    joined: Mapping[str, Any]
    """Figures of the phase that joined them, as `execution.walk.Joined` has them; empty where none did."""

    @property
    def curves(self) -> dict[str, Curve]:
        """Label -> curve, the chosen first."""
        mine = "those selected" if self.joined else "the best of each window before"
        return {mine: self.chosen} | ({"baseline": self.baseline} if self.baseline is not None else {})


def windows_of(follow: Followers, phases: Sequence[PhaseResults]) -> Windows | None:
    """The windows as the phase that joined them has it, else the best of each search through the window after it.

    None where there are less than two windows, where they overlap, and where no equity was kept.
    """
    windows = [after for before, after in follow if before.parent is None]
    baseline = _whole([curve_of(after.left, after.baseline) for after in windows])
    told = _joined(phases[-1]) if phases else None
    if told is not None and len(windows) > 1:
        return Windows(len(windows), told[0], baseline, told[1])
    chosen = _whole([curve_of(after.left, after.chosen()) for after in windows])
    return Windows(len(windows), chosen, baseline, {}) if chosen is not None else None


def _joined(left: PhaseResults) -> tuple[Curve, Mapping[str, Any]] | None:
    """Equity and figures of a phase that joined others; None where it did not, or has kept no equity."""
    for container, figures in left.summary.aggregate_metrics.items():
        kept = left.summary.container_results[container].keys.get(EQUITY)
        if "out_of_sample_mean" in figures and kept is not None and kept.path is not None and kept.rows:
            table = left[container][EQUITY]
            times = table.column("ts_event").to_numpy().astype("datetime64[ns]")
            return Curve(times, np.asarray(table.column(EQUITY).to_numpy(), float), 1.0), figures
    return None


def _whole(curves: Sequence[Curve | None]) -> Curve | None:
    """All of them stitched, None where one is missing."""
    kept = [curve for curve in curves if curve is not None]
    return stitched(kept) if len(kept) == len(curves) else None
