"""Looking for look-ahead: whether what comes after a moment moves anything that was before it."""

from .check import DEFAULT_CUTS, DEFAULT_ROWS, check_lookahead
from .report import ContainerVerdict, LookaheadReport, Moved

__all__ = ["DEFAULT_CUTS", "DEFAULT_ROWS", "ContainerVerdict", "LookaheadReport", "Moved", "check_lookahead"]
