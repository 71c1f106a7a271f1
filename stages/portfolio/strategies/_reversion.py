"""The rule of all who bet on a return to the mean."""

from __future__ import annotations

import math
from typing import Any, Protocol


class _Reversion(Protocol):
    @property
    def entry(self) -> float: ...
    @property
    def exit(self) -> float: ...


def check_deviations(reversion: _Reversion) -> None:
    """Raises `ValueError` unless 0 <= exit < entry."""
    if not (math.isfinite(reversion.entry) and 0 <= reversion.exit < reversion.entry):
        raise ValueError(
            f"expected exit from 0 and below entry, both in standard deviations, found entry={reversion.entry} "
            f"and exit={reversion.exit}"
        )


def revert(inputs: Any, parameters: Any, targets: Any) -> None:
    """A kernel: buy more than `entry` deviations below the mean, sell above, leave where the score comes past `exit`.

    `inputs`: the score and the score before it. `parameters`: entry, exit, target when bought, when sold. A position
    that was entered below the mean is left when the score rises past -exit, wherever it goes from there; the score
    before tells that this happens now, so that the rule needs no memory.
    """
    score, before = inputs
    enter, leave, bought, sold = parameters
    for bar in range(len(targets)):
        if score[bar] < -enter:
            targets[bar] = bought
        elif score[bar] > enter:
            targets[bar] = sold
        elif (before[bar] < -leave and score[bar] >= -leave) or (before[bar] > leave and score[bar] <= leave):
            targets[bar] = 0.0
