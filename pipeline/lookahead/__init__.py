"""Looking for look-ahead: whether what comes after a moment moves anything that was before it."""

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
