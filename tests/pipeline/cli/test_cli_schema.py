"""`penstock schema --data` says what records are made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from pipeline.registry import Registry

Penstock = Callable[..., Result]


def test_every_kind_of_record_is_a_table_of_its_columns(penstock: Penstock) -> None:
    told = penstock("schema", "--data")
    assert told.exit_code == 0
    tables = told.stdout.split("\n\n")
    records = Registry.installed().records
    assert [table.split(":")[0] for table in tables] == list(records)
    for table, schema in zip(tables, records.values(), strict=True):
        assert [line.split()[0] for line in table.strip().splitlines()[3:]] == schema.names


def test_a_column_is_told_with_type_unit_and_meaning(penstock: Penstock) -> None:
    lines = penstock("schema", "--data", "trade").stdout.splitlines()
    assert lines[0] == "trade: an execution"
    rows = {line.split()[0]: [cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[3:]}
    assert rows["price"] == ["price", "decimal64(18, 8)", "quote currency per unit"]
    assert rows["trade_id"] == ["trade_id", "string?", "venue's id", "null where the venue gives none"]
    assert rows["instrument_id"][1] == "dictionary<int32, string>"


def test_as_json_they_are_values(penstock: Penstock, tmp_path: Path) -> None:
    (told,) = json.loads(penstock("schema", "--data", "--json", "book_snapshot").stdout)
    assert told["kind"] == "book_snapshot" and told["meaning"]
    bids = next(column for column in told["columns"] if column["name"] == "bids")
    assert bids["type"] == "list<struct<price: decimal64(18, 8), size: decimal64(18, 8), count: uint32>>"
    assert bids["nullable"] is False
    penstock("schema", "--data", "--json", "--output", tmp_path / "records.json")
    assert len(json.loads((tmp_path / "records.json").read_text())) == len(Registry.installed().records)


def test_an_unknown_kind_is_told_with_a_near_one(penstock: Penstock) -> None:
    told = penstock("schema", "--data", "trad")
    assert told.exit_code == 2 and "no kind of record is called 'trad'; did you mean 'trade'?" in told.stderr
    assert "known: trade, quote" in penstock("schema", "--data", "zzz").stderr


def test_kinds_without_data_are_a_mistake(penstock: Penstock) -> None:
    told = penstock("schema", "trade")
    assert told.exit_code == 2 and "add --data" in told.stderr
