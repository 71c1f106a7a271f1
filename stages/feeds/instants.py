"""Moments as exact nanoseconds since 1970, UTC: as words, and as columns."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from stages.schemas import NS_UTC

Int64s: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


def utc_array(moments: Int64s) -> pa.Array:
    """timestamp[ns, UTC] sharing the memory of int64 nanoseconds."""
    return pa.array(moments).cast(NS_UTC)


def ns_of(array: pa.Array) -> Int64s:
    """int64 nanoseconds of a timestamp[ns] array without nulls."""
    moments: Int64s = array.cast(pa.int64()).to_numpy()
    return moments


def instant_said(ns: int) -> str:
    """Nanoseconds since 1970 as `2024-05-01 12:34:56`, with a fraction where there is one."""
    text = str(np.datetime_as_string(np.datetime64(ns, "ns"))).replace("T", " ")
    return text.rstrip("0").rstrip(".")
