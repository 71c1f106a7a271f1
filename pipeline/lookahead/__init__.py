"""Looking for look-ahead: whether what comes after a moment moves anything that was before it.

It runs a topology on the first rows of its feeds, then again with other futures after a few moments: cut off, or with
other values at the same times. `recording.py` notes what containers send and keep, `compare.py` holds what is stamped
before the moment against each other, and the most upstream container that moved is named. What a row says of a time
before its own, such as a bar's open, its schema tells: `known_at` in the field's metadata.
"""

from typing import TYPE_CHECKING

from ..lazily import lazily

if TYPE_CHECKING:
    from .check import check_lookahead
    from .defaults import DEFAULT_CUTS, DEFAULT_ROWS
    from .report import ContainerVerdict, LookaheadReport, Moved
else:  # the same again: the defaults are told by `penstock check --help`, which looks at nothing
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "check": ("check_lookahead",),
            "defaults": ("DEFAULT_CUTS", "DEFAULT_ROWS"),
            "report": ("ContainerVerdict", "LookaheadReport", "Moved"),
        },
    )

__all__ = ["DEFAULT_CUTS", "DEFAULT_ROWS", "ContainerVerdict", "LookaheadReport", "Moved", "check_lookahead"]
