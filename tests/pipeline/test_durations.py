"""Tests of pipeline/durations.py."""

from __future__ import annotations

import pytest

from pipeline.durations import UNITS_NS, parse_duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1ns", 1),
        ("250us", 250_000),
        ("250ms", 250_000_000),
        ("1s", 1_000_000_000),
        ("1m", 60_000_000_000),
        ("1.5h", 5_400_000_000_000),
        ("0.1s", 100_000_000),
        ("1d", 86_400_000_000_000),
        ("2w", 2 * UNITS_NS["w"]),
        (" 5 m ", 300_000_000_000),
        ("0s", 0),
    ],
)
def test_a_number_and_a_unit_are_nanoseconds(text: str, expected: int) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text", ["", "1", "m", "1M", "1 month", "-1s", "1e3s", "1m30s", "١s", "0.5ns", "99999999w", "1.s", "nan s"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)
