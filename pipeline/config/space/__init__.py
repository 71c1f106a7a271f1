"""The parameter space: combinations that are counted, sampled and looked up without all being made."""

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
