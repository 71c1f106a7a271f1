"""Records of open bars as a state that another process can read."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline import fitting

from .exact import Values


def told(records: Values) -> Any:
    """A copy; where numbers are Python ints, because decimals are wide, the columns by name."""
    if not records.dtype.hasobject:
        return records.copy()
    names = records.dtype.names or ()
    return {name: list(records[name]) if records[name].dtype.hasobject else records[name].copy() for name in names}


def taken(found: Any, dtype: np.dtype[Any]) -> Values:
    """The records again. Raises `StateMismatch` where they are of another type."""
    if not dtype.hasobject:
        return fitting("open bars", found, np.empty(0, dtype), rows=True)
    if not isinstance(found, dict):
        return fitting("open bars", found, np.empty(0, dtype))
    records = np.zeros(len(found["end"]), dtype)
    for name in dtype.names or ():
        records[name] = found[name]
    return records
