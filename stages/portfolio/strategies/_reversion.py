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
    """A kernel: buy more than `entry` deviations below the mean, sell above, leave where the score comes to `exit`.

    `inputs`: the close, the score, the score before it, the deviation. `parameters`: entry, exit, the share of the
    price within which a close is at a level, target when bought, when sold. A position that was entered below the mean
    is left when the score rises to -exit, wherever it goes from there; the score before tells that this happens now, so
    that the rule needs no memory. It is compared as it stands: a last bit too many only leaves once more, on the bar
    after the one that has left already.
    """
    close, score, before, deviation = inputs
    enter, leave, share, bought, sold = parameters
    for bar in range(len(targets)):
        near = share * (abs(close[bar]) / deviation[bar] + abs(score[bar]))
        if score[bar] < -enter - near:
            targets[bar] = bought
        elif score[bar] > enter + near:
            targets[bar] = sold
        elif (before[bar] < -leave and score[bar] >= -leave - near) or (
            before[bar] > leave and score[bar] <= leave + near
        ):
            targets[bar] = 0.0
