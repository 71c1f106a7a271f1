"""Records of every kind, written as parquet, come back as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.stage import Context
from stages.feeds.declaration import Declaration
from stages.feeds.own import finest
from stages.feeds.replay import Replay
from stages.messages import Messages
from stages.schemas import KINDS, RECORD_KINDS, Names, Records, Scales, schema_of

EIGHT = Scales(8, 8)
OWN = [kind for kind in KINDS if kind not in RECORD_KINDS]
GIVEN: dict[str, dict[str, Any]] = {
    "book_delta": {
        "action": [4, 1, 2, 3],
        "side": [0, 1, 2, 1],
        "price": ["0", "9.5", "11", "9.5"],
        "flags": [32, 160, 128, 128],
    },
    "book_snapshot": {},
    "funding_rate": {"rate": ["0.0001", None, "-0.0003", "1e-7"], "mark_price": [None, "9", "9", "9"]},
    "open_interest": {"open_interest": ["1", "2", "3", "4.5"]},
    "liquidation": {"side": [1, 2, 1, 2], "price": ["1", "2", "3", "4"], "size": ["1", "1", "1", "1"]},
    "instrument_status": {"action": ["trading", "halted", "trading", "closed"], "reason": [None, "news", None, None]},
    "instrument": {"raw_symbol": ["a", "b", "a", "b"], "price_increment": ["0.01", None, "0.5", "1"]},
}


def records(kind: str, scales: Scales = EIGHT) -> pa.RecordBatch:
    """Four rows of three messages of a kind."""
    messages = Messages.of_payloads([b"a", b"b", b"c"], [1000, 2000, 2000], first_seq=7, source="session")
    found = Records(messages, scales, Names())
    at, names = [0, 1, 1, 2], ["A.X", "B.X", "A.X", "B.X"]
    if kind == "quality_event":
        for place, name in zip(at, [*names[:3], None], strict=True):
            found.quality(place, "gap", instrument_id=name, seq_expected=3, detail="one", keep_raw=place == 1)
    elif kind == "book_snapshot":
        level = schema_of(kind, scales).field("bids").type
        sides = pa.array(
            [[{"price": 9, "size": 1, "count": None}], [], [{"price": 8, "size": 2, "count": 3}] * 2, []], level
        )
        found.add(kind, at, instrument_id=names, ts_event=np.array([1, 2, 3, 4]), depth=[2] * 4, bids=sides, asks=sides)
    else:
        found.add(kind, at, instrument_id=names, ts_event=np.array([1, 2, 3, 4]), **GIVEN[kind])
    batch = found.take(kind)
    assert batch is not None and batch.num_rows == 4
    return batch


def read(path: Path, **declared: Any) -> pa.Table:
    recipe = Replay(path=str(path), **declared)
    batches = [batch.columns for batch in recipe.build(Context()).batches()]
    table = pa.Table.from_batches(batches, schema=recipe.output_schema({}))
    table.validate(full=True)
    return table


@pytest.mark.parametrize("kind", OWN)
def test_every_kind_of_record_comes_back_as_it_was(tmp_path: Path, kind: str) -> None:
    written = pa.Table.from_batches([records(kind)])
    pq.write_table(written, tmp_path / "a.parquet", row_group_size=1)

    again = read(tmp_path)

    assert again.schema == written.schema == schema_of(kind)
    assert again.to_pylist() == written.to_pylist()
    assert read(tmp_path, batch_rows=1, schema=kind).to_pylist() == written.to_pylist()


@pytest.mark.parametrize("kind", ["book_delta", "book_snapshot", "liquidation"])
def test_records_keep_the_scale_they_were_written_with(tmp_path: Path, kind: str) -> None:
    written = pa.Table.from_batches([records(kind, Scales(2, 5))])
    pq.write_table(written, tmp_path / "a.parquet")

    assert read(tmp_path).schema == schema_of(kind, Scales(2, 5))
    assert read(tmp_path).to_pylist() == written.to_pylist()


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_every_kind_hold_the_most_decimal_places_of_several(kind: str) -> None:
    fine, coarse = schema_of(kind, Scales(10, 2)), schema_of(kind, Scales(8, 24))
    assert finest([fine, coarse]) == finest([coarse, fine, fine]) == schema_of(kind, Scales(10, 24))
    assert finest([fine]) == fine and finest([coarse, fine]).metadata == fine.metadata


def test_files_whose_names_have_other_codes_are_read_together(tmp_path: Path) -> None:
    first = pa.Table.from_batches([records("open_interest")])
    pq.write_table(first.slice(1, 1), tmp_path / "a.parquet")
    pq.write_table(first.slice(0, 1), tmp_path / "b.parquet")

    assert read(tmp_path)["instrument_id"].to_pylist() == ["B.X", "A.X"]
    assert read(tmp_path)["ingest_seq"].to_pylist() == [8, 7]


def test_another_kind_than_the_one_declared_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_batches([records("open_interest")]), tmp_path / "a.parquet")

    with pytest.raises(InputError, match="expected records of kind liquidation, found open_interest"):
        read(tmp_path, schema="liquidation")


def test_a_file_that_lacks_a_needed_column_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_batches([records("liquidation")]).drop_columns("price")
    pq.write_table(table, tmp_path / "a.parquet")

    with pytest.raises(InputError, match="expected the columns of liquidation, found none called price"):
        read(tmp_path)


def test_every_kind_of_record_may_be_declared() -> None:
    assert set(get_args(get_type_hints(Declaration)["schema"])) == {"auto", *KINDS}
