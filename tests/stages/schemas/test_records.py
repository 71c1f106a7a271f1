"""Rows that decoders add become columns of the schema, or their message a quality event, however messages are cut."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.messages import Messages
from stages.schemas import (
    CLEAR,
    FLAG_LAST,
    KINDS,
    Names,
    Records,
    Scales,
    levels_array,
    received_schema,
    schema_of,
)

NS = 1_626_993_367_123_456_789


def records_of(payloads: list[bytes], scales: Scales = Scales(), first: int = 0) -> Records:  # noqa: B008
    stamps = np.arange(first, first + len(payloads), dtype=np.int64) * 10 + NS
    return Records(Messages.of_payloads(payloads, stamps, first_seq=first, source="file"), scales, Names())


def rows(records: Records, kind: str) -> list[dict[str, Any]]:
    batch = records.take(kind)
    return [] if batch is None else batch.to_pylist()


def test_columns_of_every_form_are_one_table() -> None:
    records = records_of([b"a", b"b", b"c"])
    given = {"aggressor_side": 1, "instrument_id": "BTCUSDT.BINANCE"}
    records.add("trade", [2], ts_event=[NS], price=["1e-7"], size=[b"2.50"], trade_id=["x"], **given)
    flags, sizes = np.array([0, 128], np.uint8), [3, Decimal("0.1")]
    units, stamps = np.array([1, 2]), np.array([NS, NS])
    records.add(
        "trade", np.array([0, 0]), ts_event=stamps, price=units, size=sizes, trade_id=[7, 8], flags=flags, **given
    )
    records.add(
        "trade", [1], ts_event=["2021-07-22T22:36:07.123456789Z"], price=pa.array(["+4"]), size=pa.array([5]), **given
    )
    batch = records.take("trade")
    assert batch is not None
    batch.validate(full=True)
    assert batch.schema.equals(schema_of("trade"), check_metadata=True)
    found = batch.to_pydict()
    assert found["ingest_seq"] == [0, 0, 1, 2]
    assert batch.column("ts_recv").cast(pa.int64()).to_pylist() == [NS, NS, NS + 10, NS + 20]
    assert batch.column("ts_event").cast(pa.int64()).to_pylist() == [NS] * 4
    assert found["price"] == [Decimal(1) / 10**8, Decimal(2) / 10**8, 4, Decimal("1e-7")]
    assert found["size"] == [3, Decimal("0.1"), Decimal(5) / 10**8, Decimal("2.5")]
    assert found["trade_id"] == ["7", "8", None, "x"]
    assert found["flags"] == [0, 128, 0, 0]
    assert set(found["source_id"]) == {"file"} and set(found["instrument_id"]) == {"BTCUSDT.BINANCE"}
    assert records.take("trade") is None and records.kinds() == []


def test_instruments_have_the_codes_of_the_run() -> None:
    names = Names(["A.X", "B.X"])
    messages = Messages.of_payloads([b""], [NS])
    records = Records(messages, Scales(), names)
    records.add("trade", [0, 0], instrument_id=["C.X", "B.X"], price=["1", "1"], size=["1", "1"])
    records.add("trade", [0], instrument_id=np.array([0], np.int32), price=["1"], size=["1"])
    batch = records.take("trade")
    assert batch is not None
    assert batch.column("instrument_id").indices.to_pylist() == [2, 1, 0]
    assert batch.column("instrument_id").dictionary.to_pylist() == names.names == ["A.X", "B.X", "C.X"]


def test_book_deltas_as_received_have_a_checksum() -> None:
    records = records_of([b"m"])
    records.add("book_delta", [0], action=CLEAR, instrument_id="A.X")
    records.add("book_delta", [0], action=1, side=[2], price=["7"], size=["1"], instrument_id="A.X", flags=FLAG_LAST,
                checksum=[2**32 - 1], sequence=[2**64 - 1])  # fmt: skip
    batch = records.take("book_delta", received=True)
    assert batch is not None
    assert batch.schema.equals(received_schema(), check_metadata=True)
    assert batch.schema.names == [*schema_of("book_delta").names, "checksum"]
    assert batch.column("checksum").to_pylist() == [None, 2**32 - 1]
    assert batch.column("sequence").to_pylist() == [None, 2**64 - 1]
    assert batch.column("price").to_pylist() == [0, 7]


def test_levels_of_books_share_the_memory_of_kernels() -> None:
    prices, sizes = np.array([300, 200, 400], np.int64), np.array([1, 2, 3], np.int64)
    bids = levels_array([0, 2, 3], prices, sizes, Scales(2, 0))
    assert bids.values.field("price").buffers()[1].address == prices.ctypes.data
    records = records_of([b"", b""], Scales(2, 0))
    records.add("book_snapshot", [0, 1], instrument_id="A.X", depth=2, bids=bids, asks=[[], [{"price": 5, "size": 1}]])
    first, second = rows(records, "book_snapshot")
    assert [level["price"] for level in first["bids"]] == [3, 2]
    assert second["bids"] == [{"price": 4, "size": 3, "count": None}]
    assert second["asks"] == [{"price": 5, "size": 1, "count": None}]


@pytest.mark.parametrize("scales", [Scales(8, 0), Scales(24, 24)])
def test_any_scale_is_exact(scales: Scales) -> None:
    records = records_of([b"", b""], scales)
    texts = ["0.5", "123.0000000100000000000000"]
    records.add("trade", [0, 1], instrument_id="A.X", price=texts, size=np.array([-5, 7]))
    batch = records.take("trade")
    assert batch is not None and batch.schema.equals(schema_of("trade", scales))
    assert batch.column("price").to_pylist() == [Decimal("0.5"), Decimal("123.00000001")]
    assert batch.column("size").to_pylist() == [Decimal(-5).scaleb(-scales.size), Decimal(7).scaleb(-scales.size)]


def test_rates_are_exact_whatever_the_scales() -> None:
    records = records_of([b"%d" % i for i in range(5)], Scales(2, 2))
    rates = ["0.000100000000000001", None, "-1e-18", "1e-19", "1_0"]
    records.add("funding_rate", range(5), instrument_id="A.X", rate=rates, next_funding_ts=[NS] * 5)
    assert [row["rate"] for row in rows(records, "funding_rate")] == [
        Decimal("0.000100000000000001"), None, Decimal("-1e-18"),
    ]  # fmt: skip
    assert [row["raw"] for row in rows(records, "quality_event")] == [b"3", b"4"]


# -- what does not fit ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        (
            "price",
            "0.000000001",
            "expected a number that fits decimal64(18, 8), found '0.000000001'; a price scale of 9 holds it",
        ),
        ("size", "50000000000000", "found '50000000000000'; a size scale of 0 holds it"),
        ("size", "1e40", "expected a number that fits decimal64(18, 8), found '1e40'"),
        ("price", "abc", "expected a number that fits decimal64(18, 8), found 'abc'"),
        ("price", None, "trade.price: expected a value, found none"),
        ("price", {"a": 1}, "found \"{'a': 1}\""),
        ("sequence", -1, "trade.sequence: expected uint64, found -1"),
        ("sequence", 2**64, "trade.sequence: expected uint64, found 18446744073709551616"),
        ("ts_event", "yesterday", "expected an ISO 8601 time or seconds since 1970, found 'yesterday'"),
        ("aggressor_side", 300, "trade.aggressor_side: expected int8, found 300"),
        ("trade_id", ["x"], "trade.trade_id: expected string, found ['x']"),
        ("trade_id", "\ud800", "trade.trade_id: expected string"),
    ],
)
def test_what_does_not_fit_takes_its_message_away(column: str, value: Any, words: str) -> None:
    records = records_of([b"good", b"bad", b"also good"])
    columns = {
        "instrument_id": ["A.X"] * 4, "price": ["1", "2", "3", "4"], "size": ["1"] * 4, "aggressor_side": [1] * 4,
        "sequence": [1, 2, 3, 4], "ts_event": ["2021-07-22"] * 4, "trade_id": ["1", "2", "3", "4"],
    }  # fmt: skip
    columns[column][2] = value
    records.add("trade", [0, 1, 1, 2], **columns)
    records.add("quote", [1], instrument_id="A.X", bid_price=["1"], bid_size=[None])
    assert records.kinds() == ["trade", "quote", "quality_event"]
    assert [row["price"] for row in rows(records, "trade")] == [1, 4]
    assert len(rows(records, "quote")) == 1
    (event,) = rows(records, "quality_event")
    assert (event["kind"], event["raw"], event["ingest_seq"]) == ("parse_error", b"bad", 1)
    assert event["instrument_id"] == "A.X"
    assert event["detail"].startswith("trade.") and words in event["detail"]


def test_units_beyond_18_digits_do_not_fit() -> None:
    records = records_of([b"0", b"1", b"2"])
    records.add(
        "trade", [0, 1, 2], instrument_id="A.X", price=np.array([10**18 - 1, 10**18, -(10**18)]), size=["1"] * 3
    )
    assert [row["price"] for row in rows(records, "trade")] == [Decimal("9999999999.99999999")]
    assert [row["raw"] for row in rows(records, "quality_event")] == [b"1", b"2"]


def test_quality_events_are_never_left_out() -> None:
    records = records_of([b"0", b"1"])
    records.quality(
        1, "gap", instrument_id="A.X", channel="\ud800", seq_expected=-1, seq_got=7, missing=3, gap_start=NS
    )
    records.quality(0, "crossed", instrument_id=0, action_taken="told", keep_raw=True)
    records.add("quality_event", [0], kind=["stale"])
    crossed, stale, gap = rows(records, "quality_event")
    assert (crossed["kind"], crossed["instrument_id"], crossed["raw"]) == ("crossed", "A.X", b"0")
    assert (stale["kind"], stale["instrument_id"], stale["raw"]) == ("stale", None, None)
    assert (gap["channel"], gap["seq_expected"], gap["seq_got"], gap["missing"]) == (None, None, 7, 3)
    with pytest.raises(ValueError, match=r"expected a kind of quality event out of disconnect, .*, found 'gape'"):
        records.quality(0, "gape")
    records.add("quality_event", [0], kind=["gape"])
    with pytest.raises(ValueError, match=r"quality_event.kind: expected one of disconnect, .*, found 'gape'"):
        records.take("quality_event")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"prize": [1]}, "trade has no column 'prize' to be given; it has: ts_event, instrument_id"),
        ({"ts_recv": [1]}, "trade has no column 'ts_recv' to be given"),
        ({"price": ["1"], "size": ["1"]}, "trade needs the column 'instrument_id'; found: price, size"),
        (
            {"instrument_id": "A.X", "price": ["1", "2"], "size": ["1"]},
            "trade.price: expected 1 values, one for each row, found 2",
        ),
    ],
)
def test_decoders_that_are_wrong_are_told(columns: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        records_of([b""]).add("trade", [0], **columns)


@pytest.mark.parametrize("price", [[1.5], np.array([1.5]), ["1", 1.5]])
def test_floats_are_no_exact_numbers(price: Any) -> None:
    records = records_of([b"", b""])
    records.add("trade", range(len(price)), instrument_id="A.X", price=price, size=1)
    with pytest.raises(TypeError, match="price: expected decimal texts or integer units, found floats"):
        records.take("trade")


def test_places_and_kinds_that_are_not_there_are_told() -> None:
    records = records_of([b""])
    with pytest.raises(LookupError, match="no kind of record is called 'trades'; did you mean 'trade'"):
        records.add("trades", [0])
    records.add("trade", [1], instrument_id="A.X", price=["1"], size=["1"])
    with pytest.raises(IndexError, match="expected places of messages from 0 to 0, found 1 to 1"):
        records.take("trade")


# -- cuts ----------------------------------------------------------------------------------------------------------

prices = st.sampled_from(["1", "2.5", "1e-7", "0.000000001", "x", None, "12345678901234"])
message = st.lists(st.tuples(st.sampled_from(["trade", "quote", "gap"]), prices), max_size=4)


def decoded(run: list[list[tuple[str, Any]]], first: int, by_kind: bool) -> Records:
    """A decoder of messages that are rows already: kind by kind with one call each, or row by row."""
    records = records_of([repr(told).encode() for told in run], first=first)
    told = [(at, kind, price) for at, rows in enumerate(run) for kind, price in rows]
    calls = (
        [[row for row in told if row[1] == kind] for kind in ("gap", "quote", "trade")]
        if by_kind
        else [[row] for row in told]
    )
    for call in calls:
        at, values = [row[0] for row in call], [row[2] for row in call]
        if call and call[0][1] == "gap":
            for place in at:
                records.quality(place, "gap", instrument_id="A.X")
        elif call and call[0][1] == "trade":
            records.add("trade", at, instrument_id=["A.X"] * len(at), price=values, size=["1"] * len(at))
        else:
            records.add("quote", at, instrument_id="B.X", bid_price=values)
    return records


@settings(max_examples=60, deadline=None)
@given(st.lists(message, max_size=8), st.data(), st.booleans())
def test_the_same_rows_come_out_however_messages_are_cut(run: list[Any], data: st.DataObject, by_kind: bool) -> None:
    whole = decoded(run, 0, by_kind=True)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(run)), max_size=4))), len(run)]
    parts = [decoded(run[start:stop], start, by_kind) for start, stop in pairwise(cuts)]
    for kind in KINDS:
        assert rows(whole, kind) == [row for part in parts for row in rows(part, kind)]
