"""Rows as portfolios send them, written as dicts by those who test what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.frames import Batch
from stages.portfolio.records import PORTFOLIOS


def rows_sent(rows: Sequence[Mapping[str, Any]]) -> Batch:
    """One batch of PORTFOLIOS; what is missing is null, and nobody is the baseline who does not say so."""
    told = [{"baseline": False, **row} for row in rows]
    arrays = [pa.array([row.get(field.name) for row in told], field.type) for field in PORTFOLIOS]
    return Batch(pa.RecordBatch.from_arrays(arrays, schema=PORTFOLIOS))
