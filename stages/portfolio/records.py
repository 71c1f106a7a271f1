"""What portfolios put out: the Arrow schemas of fills, kept equity and statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from .bars import Floats, Times
from .statistics import STATISTICS

NS_UTC = pa.timestamp("ns", tz="UTC")
_ARROW = {"int": pa.int64(), "float": pa.float64(), "text": pa.utf8()}

FILLS = pa.schema(
    [
        pa.field("ts_event", NS_UTC, nullable=False),
        pa.field("side", pa.int8(), nullable=False),
        *(
            pa.field(name, pa.float64(), nullable=False)
            for name in ("quantity", "price", "fee", "slippage", "position_after", "cash_after")
        ),
    ],
    metadata={"record": "fill"},
)
"""One row per fill: `side` 1 buy, 2 sell; `quantity` in units, above 0; `price` paid, with slippage in it; `fee` and
`slippage` in quote currency; `position_after` in units, signed; `cash_after` in quote currency."""

FILLS_OF_SEVERAL = FILLS.insert(1, pa.field("instrument_id", pa.utf8(), nullable=False))
"""The same where a portfolio trades several instruments: which one it was."""

EQUITY = pa.schema(
    [pa.field("ts_event", NS_UTC, nullable=False), pa.field("equity", pa.float64(), nullable=False)],
    metadata={"record": "equity"},
)
"""Kept equity in quote currency at the end of the last bar of each bucket; the metadata's `interval` names the grid."""

PORTFOLIOS = pa.schema(
    [
        pa.field("container", pa.utf8(), nullable=False),
        pa.field("baseline", pa.bool_(), nullable=False),
        pa.field("strategy", pa.utf8(), nullable=False),
        pa.field("parameters", pa.utf8(), nullable=False),
        pa.field("instrument_id", pa.utf8()),
        pa.field("error", pa.utf8()),
        pa.field("ts_event", NS_UTC),
        *(
            pa.field(name, _ARROW[kind], metadata={"meaning": meaning})
            for name, (kind, _, meaning) in STATISTICS.items()
        ),
    ],
    metadata={"record": "portfolio"},
)
"""One row per portfolio: its name, whether it is the baseline others are held against, its strategy's class, what
tells it from others (`Portfolio.parameters`, JSON), what it traded, why it failed (else null), the end of its last bar,
every statistic, null where undefined."""


def fills_of(
    gathered: Sequence[np.ndarray[Any, Any]], members: int, together: int, instruments: Sequence[str] | None = None
) -> Iterator[tuple[list[int], np.ndarray[Any, Any], pa.RecordBatch]]:
    """FILL records as columns, so many members `together`: which, where each one's rows begin, and the rows.

    `instruments` names those that `instrument` counts, where there are several. The first call imports numba.
    """
    from .sorting import by_member

    schema = FILLS if instruments is None else FILLS_OF_SEVERAL
    for own in by_member(gathered, members, together):
        arrays = [_flat(NS_UTC, own.times), _flat(pa.int8(), own.sides)]
        arrays += [_flat(pa.float64(), line) for line in own.figures]
        if instruments is not None:
            arrays.insert(1, pa.array(instruments, pa.utf8()).take(pa.array(own.owners)))
        yield own.members, own.offsets, pa.RecordBatch.from_arrays(arrays, schema=schema)


def equity_of(times: Times, equity: Floats, interval: str) -> pa.RecordBatch:
    """Kept equity, one point after another: views of `times` and `equity`, which both have one dimension."""
    schema = EQUITY.with_metadata({"record": "equity", "interval": interval})
    return pa.RecordBatch.from_arrays([_flat(NS_UTC, times), _flat(pa.float64(), equity)], schema=schema)


def portfolios_of(columns: Mapping[str, Any], failed: np.ndarray[Any, np.dtype[np.bool_]]) -> pa.RecordBatch:
    """One row per portfolio out of columns by name: arrays, lists, or one value for all.

    Statistics of those that `failed`, and what is not finite, are null.
    """
    import pyarrow.compute as pc

    arrays = []
    for field in PORTFOLIOS:
        values = columns[field.name]
        if values is None or isinstance(values, str):
            array = pa.repeat(pa.scalar(values, field.type), len(failed))
        elif isinstance(values, np.ndarray):
            array = pa.array(values, field.type, mask=~np.isfinite(values))
        else:
            array = pa.array(values, field.type)
        if field.name in STATISTICS and failed.any():
            array = pc.if_else(pa.array(failed), pa.scalar(None, field.type), array)
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=PORTFOLIOS)


def _flat(kind: pa.DataType, values: np.ndarray[Any, Any]) -> pa.Array:
    """The array itself as an Arrow column, without a copy."""
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)], 0)
