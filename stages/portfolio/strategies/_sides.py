"""Which sides of a market a strategy may take."""

from __future__ import annotations

from typing import Literal, TypeAlias

Side: TypeAlias = Literal["long", "short", "both"]


def bought_and_sold(side: Side) -> tuple[float, float]:
    """The targets a rule to buy and a rule to sell lead to: 1 and 0, 0 and -1, or 1 and -1."""
    return (0.0 if side == "short" else 1.0), (0.0 if side == "long" else -1.0)
