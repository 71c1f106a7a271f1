"""The parameter space: combinations that are counted, sampled and looked up without all being made.

Who the members of a group are: blocks of axes, counted, sampled and looked up by number without being made.
Constraints are read (`where.py`), never executed; axes they tie together are looked through (`grid.py`), nothing else
is. `planning.py` adds up, before anything runs, what stages say of themselves (`Stage.footprint`).
"""

from .axes import Axis, Distribution, Given, Points, Range, Spaced, Steps
from .block import Block
from .grid import MAX_LOOKED_THROUGH, Grid, GridTooLarge
from .sample import MAX_DRAWS, Sample, TooFew
from .space import ParameterSpace
from .where import Constraint, ConstraintError

__all__ = [
    "MAX_DRAWS",
    "MAX_LOOKED_THROUGH",
    "Axis",
    "Block",
    "Constraint",
    "ConstraintError",
    "Distribution",
    "Given",
    "Grid",
    "GridTooLarge",
    "ParameterSpace",
    "Points",
    "Range",
    "Sample",
    "Spaced",
    "Steps",
    "TooFew",
]
