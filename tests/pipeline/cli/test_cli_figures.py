from __future__ import annotations

import math

import pytest

from pipeline.cli.figures import bytes_said, column_said, rows_said, seconds_said


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KB"), (300 << 20, "300 MB"), (5 << 30, "5.0 GB"), (9 << 40, "9216 GB")],
)
def test_bytes_are_said_in_the_largest_unit_that_leaves_one(size: int, said: str) -> None:
    assert bytes_said(size) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4239, "0.42 s"), (12.34, "12.3 s"), (185.2, "3 min 05 s"), (7380, "2 h 03 min")]
)
def test_durations_are_said_as_long_as_they_are(seconds: float, said: str) -> None:
    assert seconds_said(seconds) == said


def test_rows_are_grouped_in_thousands() -> None:
    assert rows_said(1234567.8) == "1,234,568"


def test_shares_become_percents_by_the_end_of_their_name() -> None:
    assert column_said("total_return", [0.1234, -0.5, None]) == ["12.34%", "-50.00%", "-"]
    assert column_said("win_rate", [1.0]) == ["100.00%"]
    assert column_said("total_return", [-0.00000123, 0.0]) == ["-0.00012%", "0.00000%"]


def test_nothing_is_minus_zero() -> None:
    assert column_said("total_return", [-1e-9, 0.5]) == ["0.00%", "50.00%"]
    assert column_said("fees", [-0.001, 5000.0]) == ["0.00", "5,000.00"]


def test_a_column_has_the_decimals_its_largest_value_deserves() -> None:
    assert column_said("sharpe", [1.23456, -0.5, None]) == ["1.235", "-0.500", "-"]
    assert column_said("end_equity", [123456.789, 1.0]) == ["123,456.79", "1.00"]
    assert column_said("edge", [0.00012346]) == ["0.0001235"]


def test_what_is_undefined_is_a_dash_and_the_rest_stays_what_it_is() -> None:
    assert column_said("x", [None, math.nan, True, 12345, "a [bold] b"]) == ["-", "-", "yes", "12,345", "a [bold] b"]


def test_infinity_does_not_break_a_column() -> None:
    assert column_said("profit_factor", [math.inf, 2.0]) == ["inf", "2.000"]
