"""The terminal shows the ends of a stream and counts all of it."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline.frames import Batch
from pipeline.stage import Context
from stages.sinks.console import Console


def shown(capsys: pytest.CaptureFixture[str], sizes: list[int], **fields: object) -> tuple[str, str, int]:
    sink = Console(**fields).build(Context(name="show"))  # type: ignore[arg-type]
    first = 0
    for size in sizes:
        values = list(range(first, first + size))
        sink.on_batch(
            Batch(pa.record_batch({"n": values, "price": [value / 2 for value in values], "none": pa.nulls(size)}))
        )
        first += size
    sink.on_end()
    out, err = capsys.readouterr()
    return out, err, sink.committed_rows


def numbers(text: str) -> list[str]:
    lines = [line.replace("│", " ").split() for line in text.splitlines()]
    return [words[0] for words in lines if words and (words[0].isdigit() or words[0] == "...")]


@pytest.mark.parametrize("sizes", [[100], [1] * 100, [7] * 14 + [2], [50, 0, 50]])
def test_the_ends_of_a_stream_are_shown_however_batched(capsys: pytest.CaptureFixture[str], sizes: list[int]) -> None:
    out, err, rows = shown(capsys, sizes, first=2, last=3)
    assert numbers(out) == ["0", "1", "...", "97", "98", "99"]
    assert "show: 100 rows" in out
    assert (err, rows) == ("", 100)


def test_a_short_stream_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    out, _, _ = shown(capsys, [3, 1], first=2, last=5)
    assert numbers(out) == ["0", "1", "2", "3"]
    assert "none" not in out


def test_no_tail_is_shown_if_none_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    out, _, _ = shown(capsys, [10], first=1, last=0)
    assert numbers(out) == ["0", "..."]


def test_standard_output_stays_free(capsys: pytest.CaptureFixture[str]) -> None:
    out, err, _ = shown(capsys, [1], stderr=True, columns=("price",))
    assert out == ""
    assert "price" in err


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="first: expected 0 to 10000 rows, found -1"):
        Console(first=-1)


def test_an_empty_stream_is_an_empty_table(capsys: pytest.CaptureFixture[str]) -> None:
    out, _, rows = shown(capsys, [])
    assert "show: 0 rows" in out
    assert rows == 0
