"""Whose the state of a group is, and what deciders must say to give theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import xxhash

from pipeline import StateOf

from .strategy import Strategy

if TYPE_CHECKING:
    from .portfolio import Portfolio

VERSION = 1
BESIDE = {"threads", "max_failed_share", "strategy"}
"""Fields of a portfolio that change nothing in what a group remembers, and the one that is told by itself."""


def state_of(members: Mapping[str, Portfolio], active_from_ns: int | None) -> StateOf:
    """Members by name, in the order of the books, the baseline among them."""
    digest = xxhash.xxh3_64()
    for name, recipe in members.items():
        told = {field: getattr(recipe, field) for field in recipe.__struct_fields__ if field not in BESIDE}
        digest.update(msgspec.json.encode([name, recipe.strategy, told], enc_hook=lambda value: type(value).__name__))
    return StateOf(
        "portfolios",
        VERSION,
        {
            "members": len(members),
            "strategies": dict(Counter(type(recipe.strategy).__qualname__ for recipe in members.values())),
            "settings": digest.hexdigest(),
            "active_from_ns": active_from_ns,
        },
    )


def remembers(decider: Any) -> bool:
    """Whether a decider gives what it remembers."""
    return callable(getattr(decider, "snapshot", None)) and callable(getattr(decider, "restore", None))


def forgets(decider: Any) -> bool:
    """Whether a decider remembers nothing: it says so, or is the frozen recipe itself."""
    return isinstance(decider, Strategy) or getattr(decider, "stateless", False) is True
