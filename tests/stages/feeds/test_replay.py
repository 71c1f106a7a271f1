"""The recipe is dull, and says what is missing when it is asked to work."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.errors import InputError
from pipeline.stage import Context
from stages.feeds.replay import Replay
from stages.schemas import trade_schema


def test_without_a_path_the_recipe_stands_but_cannot_work() -> None:
    recipe = Replay()
    assert recipe.output_schema({}) is None
    assert Replay(schema="trade", scale=2).output_schema({}) == trade_schema(2)
    for work in (lambda: recipe.build(Context()), lambda: recipe.input_files()):
        with pytest.raises(InputError, match=r"run with `--data PATH`, or use `type: synthetic`"):
            work()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"clock": {"speed": 0}}, "speed: expected max or a number above 0, found 0"),
        ({"batch_rows": 0}, "batch_rows: expected at least 1, found 0"),
        ({"scale": 99}, "scale: expected a scale of 0 to 30"),
        ({"pth": "x"}, "unknown field `pth`"),
    ],
)
def test_wrong_settings_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(fields, Replay)


def test_where_nothing_is_found_the_error_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a file or folder, found none"):
        Replay(path=str(tmp_path / "absent")).input_files()
    with pytest.raises(InputError, match=r"expected parquet \(.parquet .pq\) or csv .* or LEAN data .*, found nothing"):
        Replay(path=str(tmp_path)).input_files()
    (tmp_path / "a.csv").write_text("time,price,qty\n")
    (tmp_path / "a.parquet").write_text("")
    with pytest.raises(InputError, match="expected files of one format, found 1 of parquet, 1 of csv"):
        Replay(path=str(tmp_path)).input_files()
    (tmp_path / "a.dat").write_text("time,price,qty\n1,1,1\n")
    with pytest.raises(InputError, match=r"a.dat: expected parquet .*, found another ending, .*; declare `format`"):
        Replay(path=str(tmp_path / "a.dat")).input_files()
    assert Replay(path=str(tmp_path / "a.dat"), format="csv").input_files() == (tmp_path / "a.dat",)
    with pytest.raises(InputError, match="expected LEAN data"):
        Replay(path=str(tmp_path), format="lean").input_files()


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"", "it is empty"),
        (b"hello\n", "it begins with b'hello'"),
        (gzip.compress(b"", mtime=0), "it is empty"),
        (gzip.compress(b"hello\n", mtime=0), "it begins with b'hello'"),
        (gzip.compress(b"x" * 4000, mtime=0)[:12], "cut short after 0 bytes"),
    ],
    ids=["empty", "text", "packed nothing", "packed text", "cut"],
)
def test_who_meant_a_capture_is_told_what_keeps_it_from_being_one(tmp_path: Path, content: bytes, wrong: str) -> None:
    file = tmp_path / "btcusdt_20240808.gz"
    file.write_bytes(content)
    with pytest.raises(InputError) as told:
        Replay(path=str(file)).output_schema({})
    assert "or a capture of messages (" in str(told.value)
    assert f"found another ending, and no capture: {wrong}" in str(told.value)
