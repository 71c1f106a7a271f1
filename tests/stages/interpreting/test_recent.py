"""What is remembered of trades: the last of them, however they were cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.interpreting import recent
from stages.interpreting.recent import WINDOW, Content, Recent

EXACT = pa.decimal64(18, 2)


def _trades(first: int, rows: int, kind: pa.DataType = EXACT) -> pa.RecordBatch:
    units = np.arange(first, first + rows)
    return pa.record_batch(
        {
            "price": pa.array([f"{unit / 100:.2f}" for unit in units.tolist()]).cast(pa.decimal128(38, 2)).cast(kind),
            "size": pa.array(["1.00"] * rows).cast(pa.decimal128(38, 2)).cast(kind),
            "aggressor_side": pa.array((units % 3).astype(np.int8)),
        }
    )


def _remembering(cut: int, rows: int, ids: Any) -> Recent:
    made = Recent()
    for first in range(0, rows, cut):
        count = min(cut, rows - first)
        made.remember(Content(_trades(first, count)), np.arange(count), ids[first : first + count])
    return made


@pytest.mark.parametrize("named", [False, True])
def test_exactly_the_last_window_is_remembered_however_trades_were_cut(named: bool) -> None:
    rows = WINDOW + 700
    ids: Any = [f"t{row}" for row in range(rows)] if named else np.arange(rows)
    told = [_remembering(cut, rows, ids).plain() for cut in (7, 1000, rows)]
    assert told[0] == told[1] == told[2]
    assert told[0]["names"] == list(ids[-WINDOW:])
    assert told[0]["said"][0] == [700, 100, 700 % 3]


def test_runs_of_one_trade_do_not_pile_up() -> None:
    made = _remembering(1, 500, np.arange(500))
    assert len(made._parts) <= recent._MOST_PARTS
    assert 0 in made
    assert made.get(499) == (499, 100, 1)
    assert made.get(500) is None


def test_wide_decimals_are_remembered_as_whole_numbers() -> None:
    made = Recent()
    made.remember(Content(_trades(5, 2, pa.decimal128(38, 2))), np.array([1]), np.array([9, 10]))
    assert made.get(10) == (6, 100, 0)
    assert made.get(9) is None


def test_what_is_looked_up_and_what_is_not_leave_the_same_state() -> None:
    asked, unasked = Recent(), Recent()
    for first in range(0, 40, 4):
        for each in (asked, unasked):
            each.remember(Content(_trades(first, 4)), np.arange(4), np.arange(first, first + 4))
        assert first in asked
    assert asked.plain() == unasked.plain()
    assert Recent.of(asked.plain()).plain() == asked.plain()
