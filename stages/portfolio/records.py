"""What portfolios put out: the Arrow schemas of fills, kept equity and statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from .bars import Floats, Times
from .statistics import STATISTICS

NS_UTC = pa.timestamp("ns", tz="UTC")
_ABSENT = {"baseline": False}
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
"""One row per portfolio: its name, whether it is the baseline others are held against, its strategy's class and fields
(JSON), what it traded, why it failed (else null), the end of its last bar, every statistic, null where undefined."""


def fills_of(fills: np.ndarray[Any, Any]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Each member's fills, in their order, out of FILL records of many; every batch owns its memory and no more."""
    order = np.argsort(fills["member"], kind="stable")
    members = fills["member"][order]
    cuts = [0, *(np.flatnonzero(np.diff(members)) + 1).tolist(), len(fills)]
    columns = [fills["ts"][order], fills["side"][order].astype(np.int8)]
    columns += [fills[name][order] for name in FILLS.names[2:]]
    types = FILLS.types
    for begin, end in pairwise(cuts):
        arrays = [
            pa.Array.from_buffers(kind, end - begin, [None, pa.py_buffer(column[begin:end].tobytes())], 0)
            for kind, column in zip(types, columns, strict=True)
        ]
        yield int(members[begin]), pa.RecordBatch.from_arrays(arrays, schema=FILLS)


def equity_of(times: Times, equity: Floats, interval: str) -> pa.RecordBatch:
    """Kept equity of one member."""
    schema = EQUITY.with_metadata({"record": "equity", "interval": interval})
    return pa.RecordBatch.from_arrays([pa.array(times).cast(NS_UTC), pa.array(equity.copy())], schema=schema)


def portfolios_of(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """One row per portfolio out of dicts by column name; what is missing is null, and no baseline."""
    arrays = [
        pa.array([row.get(field.name, _ABSENT.get(field.name)) for row in rows], field.type) for field in PORTFOLIOS
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=PORTFOLIOS)
