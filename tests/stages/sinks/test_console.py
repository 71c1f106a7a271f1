"""The terminal shows the ends of a stream and counts all of it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from pipeline import StateMismatch
from pipeline.frames import Batch
from pipeline.stage import Context
from pipeline.testing import check_snapshots
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


async def test_r6_it_goes_on_from_wherever_it_was_cut_and_shows_nothing_twice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sizes = [1, 3, 2, 40, 1, 1]
    recipe = Console(first=2, last=4)
    batches = [Batch(pa.record_batch({"a_column_with_a_long_name": list(range(size))})) for size in sizes]
    await check_snapshots(recipe, batches)
    printed = [table.strip() for table in capsys.readouterr().out.split("test: 48 rows")[1:]]
    assert len(set(printed)) == 1
    assert len(printed) == 1 + 7 * 2 + 1, "cut after the end, the one that was brought back prints nothing"
    ended: Any = recipe.build(Context())
    ended.on_batch(batches[0])
    ended.on_end()
    again: Any = recipe.build(Context())
    again.restore(ended.snapshot())
    assert again.committed_rows == 1
    assert again.snapshot()["state"] == {"rows": 1}


def test_r6_the_state_of_another_console_is_refused() -> None:
    with pytest.raises(StateMismatch, match="console with first 5, found 2"):
        Console().build(Context()).restore(Console(first=2).build(Context()).snapshot())
