"""What portfolios put out: the Arrow schemas of fills, kept equity and statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from .bars import Floats
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
"""One row per portfolio: its name, whether it is the baseline others are held against, its strategy's class and fields
(JSON), what it traded, why it failed (else null), the end of its last bar, every statistic, null where undefined."""


def fills_of(
    fills: np.ndarray[Any, Any], instruments: Sequence[str] | None = None
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Each member's fills, in their order, out of FILL records of many; every batch owns its memory and no more.

    `instruments` names those that `instrument` counts, where there are several.
    """
    order = np.argsort(fills["member"], kind="stable")
    members = fills["member"][order]
    cuts = [0, *(np.flatnonzero(np.diff(members)) + 1).tolist(), len(fills)]
    schema = FILLS if instruments is None else FILLS_OF_SEVERAL
    columns = {"ts_event": fills["ts"][order], "side": fills["side"][order].astype(np.int8)}
    columns |= {name: fills[name][order] for name in FILLS.names[2:]}
    names = pa.array(instruments or (), pa.utf8())
    owners = fills["instrument"][order]
    for begin, end in pairwise(cuts):
        arrays = [
            names.take(pa.array(owners[begin:end]))
            if field.name == "instrument_id"
            else pa.Array.from_buffers(
                field.type, end - begin, [None, pa.py_buffer(columns[field.name][begin:end].tobytes())], 0
            )
            for field in schema
        ]
        yield int(members[begin]), pa.RecordBatch.from_arrays(arrays, schema=schema)


def equity_of(times: pa.Array, equity: Floats, interval: str) -> pa.RecordBatch:
    """Kept equity of one member: a view of `equity` (points,), and of times all members share."""
    schema = EQUITY.with_metadata({"record": "equity", "interval": interval})
    values = pa.Array.from_buffers(pa.float64(), len(equity), [None, pa.py_buffer(equity)], 0)
    return pa.RecordBatch.from_arrays([times, values], schema=schema)


def portfolios_of(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """One row per portfolio out of dicts by column name; what is missing is null, and no baseline."""
    arrays = [
        pa.array([row.get(field.name, _ABSENT.get(field.name)) for row in rows], field.type) for field in PORTFOLIOS
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=PORTFOLIOS)
