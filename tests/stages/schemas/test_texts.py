"""Texts become exactly the integers that `decimal.Decimal` and `datetime` say, or are named as faults."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Context, Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.schemas import LARGEST_DECIMAL64, decimal_units, time_ns
from stages.schemas.texts import scale_that_holds

NUMBER = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:[eE]([+-]?[0-9]+))?")
EXACTLY = Context(prec=400, Emax=10**9, Emin=-(10**9))
LARGEST_INT64 = 2**63 - 1

digits = st.text("0123456789", max_size=25)
zeros = st.text("0", max_size=20)
numbers = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "+", "-"]),
        zeros,
        digits,
        st.sampled_from(["", "."]),
        zeros,
        digits,
        zeros,
        st.one_of(
            st.just(""), st.integers(-40, 40).map(lambda e: f"e{e}"), st.sampled_from(["E+7", "E", "e-", "e+00"])
        ),
    ),
)
texts = st.one_of(
    numbers, st.decimals(allow_nan=True).map(str), st.text(max_size=12), st.text("0123456789.+-eE", max_size=24)
)


def words(text: str) -> list[str]:
    return text.split()


def units_by_decimal(text: str, scale: int, limit: int) -> tuple[int, int]:
    """The oracle: count and fault."""
    written = NUMBER.fullmatch(text)
    if not written:
        return 0, 1
    number, exponent = Decimal(written[1]), int(written[2] or 0)
    if number.is_zero():
        return 0, 0
    if abs(number.adjusted() + exponent) > 100:
        return 0, 2
    units = number.scaleb(exponent + scale, EXACTLY)
    if units != int(units) or abs(units) > limit:
        return 0, 2
    return int(units), 0


def check(rows: list[str | None], scale: int, limit: int) -> None:
    found = decimal_units([row if row is None else row.encode("utf-8", "surrogatepass") for row in rows], scale, limit)
    expected = [(0, 0) if row is None else units_by_decimal(row, scale, limit) for row in rows]
    assert found.values.tolist() == [count for count, _ in expected]
    faults = [fault for _, fault in expected]
    assert (found.faults.tolist() if found.faults is not None else [0] * len(rows)) == faults
    assert (found.faults is None) == (not any(faults))
    nulls = [row is None for row in rows]
    assert (found.null.tolist() if found.null is not None else [False] * len(rows)) == nulls


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.none(), texts), max_size=6),
    st.integers(0, 10),
    st.sampled_from([LARGEST_DECIMAL64, LARGEST_INT64]),
)
def test_any_text_is_what_decimal_says_or_a_fault(rows: list[str | None], scale: int, limit: int) -> None:
    check(rows, scale, limit)


EDGES = words("""
0 -0 +0.0 1E-7 1e7 00001.10000 .5 5. 1.230000000000000000000000000000 00000000000000000000000000000000012
9999999999.99999999 10000000000 -9999999999.99999999 -10000000000.0 999999999999999999 1e17 1e18 99999999999999999.9
0.00000001 0.000000001 0.000000010 1e-8 1e-9 10e-9 0e99999999999999999999 1e99999999999999999999 1e-99999999999999999999
9223372036854775807 9223372036854775808 -9223372036854775808 92233720368547758070e-1 18446744073709551617
1000000000000000000000000000000 1111111111111111111e-19 . + -. e5 1e 1e+ 1.2.3 --1 1_000 NaN Infinity 0x10 ١ 1,5
""")


@pytest.mark.parametrize("scale", [0, 2, 8, 10])
def test_texts_at_every_edge_are_what_decimal_says(scale: int) -> None:
    long = [f"1{'0' * 100}e-100", f"0.{'0' * 100}1e101", f"1.{'0' * 60}1"]
    for limit in (LARGEST_DECIMAL64, LARGEST_INT64):
        check([*EDGES, *long, "", " 1", "1 "], scale, limit)


def test_neighbours_in_a_sliced_array_are_not_read() -> None:
    array = pa.array(["1", "22", None, "333", "x"]).slice(1, 3)
    for kind in (pa.utf8(), pa.large_utf8(), pa.binary(), pa.large_binary()):
        found = decimal_units(array.cast(kind), 0)
        assert found.values.tolist() == [22, 0, 333] and found.faults is None
        assert found.null is not None and found.null.tolist() == [False, True, False]
    assert decimal_units([], 8).values.tolist() == []


@given(st.integers(-(10**18) + 1, 10**18 - 1), st.integers(0, 10))
@settings(deadline=None)
def test_the_scale_that_is_named_holds_the_number_and_a_smaller_does_not(units: int, places: int) -> None:
    text = str(Decimal(units).scaleb(-places))
    named = scale_that_holds(text)
    assert named is not None
    if named <= 10:
        assert decimal_units([text], named).faults is None
        assert named == 0 or decimal_units([text], named - 1).faults is not None
    else:
        assert all(decimal_units([text], scale).faults is not None for scale in range(11))


@pytest.mark.parametrize(
    ("text", "scale"),
    [("0", 0), ("0.000", 0), ("1.50", 1), ("1e-12", 12), ("50000000000000", 0), ("123456789.123456789123", 12),
     ("1e-30", 30), ("1e-31", None), ("1e40", None), ("x", None), ("inf", None)],
)  # fmt: skip
def test_scales_that_hold_a_number(text: str, scale: int | None) -> None:
    assert scale_that_holds(text) == scale


# -- times ---------------------------------------------------------------------------------------------------------

offsets = st.one_of(
    st.sampled_from([("", 0), ("Z", 0), ("z", 0), ("+00:00", 0), ("-0530", -330), ("+09", 540), ("+05:45", 345)]),
)
moments = st.datetimes(datetime(1678, 1, 1), datetime(2261, 12, 31))


@settings(max_examples=200, deadline=None)
@given(moments, st.integers(0, 999_999_999), st.integers(0, 9), offsets, st.sampled_from("T "))
@example(datetime(2000, 2, 29, 23, 59, 59), 999_999_999, 9, ("Z", 0), "T")
@example(datetime(1700, 2, 28), 0, 0, ("+09", 540), "T")
def test_iso_times_are_what_datetime_says(
    moment: datetime, fraction: int, places: int, offset: tuple[str, int], middle: str
) -> None:
    moment = moment.replace(microsecond=0)
    kept = f"{fraction:09d}"[:places]
    text = f"{moment:%Y-%m-%d}{middle}{moment:%H:%M:%S}{'.' + kept if kept else ''}{offset[0]}"
    text = text if text[4] == "-" else f"{moment.year:04d}{text[text.index('-') :]}"
    since = moment.replace(tzinfo=timezone(timedelta(minutes=offset[1]))) - datetime(1970, 1, 1, tzinfo=UTC)
    ns = (since.days * 86_400 + since.seconds) * 10**9 + int(kept.ljust(9, "0") or 0)
    found = time_ns([text, None, text.encode()])
    assert found.faults is None
    assert found.values.tolist() == [ns, 0, ns]


def test_iso_times_are_what_arrow_says_on_every_day_of_four_centuries() -> None:
    days = np.arange(np.datetime64("1700-01-01"), np.datetime64("2101-01-01"))
    texts = [f"{day}T12:34:56.000000789Z" for day in days.astype(str)]
    expected = pa.array(texts).cast(pa.timestamp("ns", "UTC")).cast(pa.int64()).to_numpy()
    found = time_ns(texts)
    assert found.faults is None
    assert np.array_equal(found.values, expected)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2021-07-22T22:36:07.123456Z", 1_626_993_367_123_456_000),
        ("2021-07-22T22:36", 1_626_993_360_000_000_000),
        ("2021-07-22", 1_626_912_000_000_000_000),
        ("2021-07-22T22:36:07.1234567890Z", 1_626_993_367_123_456_789),
        ("1618678132.831468", 1_618_678_132_831_468_000),
        ("1618678132", 1_618_678_132_000_000_000),
        ("1618678132.123456789", 1_618_678_132_123_456_789),
        ("1.618678132831468E9", 1_618_678_132_831_468_000),
        ("-1.5", -1_500_000_000),
    ],
)
def test_times_of_every_form(text: str, ns: int) -> None:
    assert time_ns([text]).values.tolist() == [ns]


NO_TIMES = words("""
x 2021-13-01 2021-00-01 2021-02-29 1900-02-29T00:00:00Z 2021-04-31 2021-07-32 2021-07-00 2021/07/22 20a1-07-22
2021-07-22Z 2021-07-22T24:00:00Z 2021-07-22T22:60:00Z 2021-07-22T22:36:60Z 2021-07-22T 2021-07-22T22 2021-07-22T22:36:0
2021-07-22T22:36:07. 2021-07-22T22:36:07.Z 2021-07-22T22:36:07+1 2021-07-22T22:36:07+25:00 2021-07-22T22:36:07+01:0x
2021-07-22T22:36:07Zx 2021-07-22X22:36:07
""")
TOO_FINE_OR_FAR = words("2021-07-22T22:36:07.1234567891Z 1618678132.1234567891 9999-01-01 1e30")


@pytest.mark.parametrize(("texts", "fault"), [(["", *NO_TIMES], 1), (TOO_FINE_OR_FAR, 2)])
def test_what_is_no_time_is_a_fault(texts: list[str], fault: int) -> None:
    for text in texts:
        found: Any = time_ns(["2021-07-22", text])
        assert (text, found.faults.tolist()) == (text, [0, fault])
        assert found.values[1] == 0
