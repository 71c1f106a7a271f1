"""Settings made in Python: what a file would be refused for is refused here too, before anything is made."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from pipeline import ConfigError, DataFlow, InvalidKey, Pipeline, TopologyBuilder, open_stores
from pipeline.data import build_manager
from pipeline.data.policy import FileSettings, StreamingSettings
from pipeline.storage.workspace import Workspace
from pipeline.testing import ListFeed

POSITIVE, WHOLE = "expected a positive number", "expected a positive whole number"
WRONG: list[tuple[dict[str, Any], str, str]] = [
    (
        {"durability": "durabel"},
        "durability",
        "expected one of durable, ephemeral, process, found 'durabel'; did you mean 'durable'?",
    ),
    (
        {"mode": "hybird"},
        "mode",
        "expected one of file, hybrid, memory, streaming, found 'hybird'; did you mean 'hybrid'?",
    ),
    (
        {"mode": ["hybrid"]},
        "mode",
        "expected one of file, hybrid, memory, streaming, found ['hybrid']; did you mean 'hybrid'?",
    ),
    ({"on_full": "x"}, "on_full", "expected one of block, evict_oldest, reject, found 'x'"),
    ({"memory_limit_mb": -1}, "memory_limit_mb", f"{POSITIVE}, found -1"),
    ({"memory_limit_mb": math.nan}, "memory_limit_mb", f"{POSITIVE}, found nan"),
    ({"memory_limit_mb": math.inf}, "memory_limit_mb", f"{POSITIVE}, found inf"),
    ({"memory_limit_mb": 1e308}, "memory_limit_mb", f"{POSITIVE}, found 1e+308; at most 1e+09"),
    ({"memory_limit_mb": True}, "memory_limit_mb", f"{POSITIVE}, found True"),
    ({"memory_limit_mb": "5"}, "memory_limit_mb", f"{POSITIVE}, found '5'"),
    ({"disk_limit_mb": 1e308}, "disk_limit_mb", f"{POSITIVE}, found 1e+308; at most 1e+09"),
    ({"min_free_disk_mb": -1}, "min_free_disk_mb", "expected a number of at least 0, found -1"),
    ({"admission_timeout_seconds": 1e300}, "admission_timeout_seconds", f"{POSITIVE}, found 1e+300; at most 1e+09"),
    ({"copy": "no"}, "copy", "expected True or False, found 'no'"),
    ({"file_settings": None}, "file_settings", "expected a FileSettings, found None"),
    (
        {"file_settings": FileSettings(format="parqet")},  # type: ignore[arg-type]
        "file_settings.format",
        "expected one of arrow, parquet, found 'parqet'; did you mean 'parquet'?",
    ),
    ({"streaming_settings": StreamingSettings(buffer_size=0)}, "streaming_settings.buffer_size", f"{WHOLE}, found 0"),
    (
        {"streaming_settings": StreamingSettings(max_attempts=1.5)},  # type: ignore[arg-type]
        "streaming_settings.max_attempts",
        f"{WHOLE}, found 1.5",
    ),
]


@pytest.mark.parametrize(("settings", "path", "text"), WRONG)
async def test_settings_that_are_none_are_refused_wherever_they_are_given(
    settings: dict[str, Any], path: str, text: str, tmp_path: Path
) -> None:
    flow = DataFlow(**settings)
    async with open_stores(tmp_path / "stores") as stores:
        with pytest.raises(ConfigError) as raised:
            await stores.open("quotes", flow)
        assert str(raised.value) == f"quotes.data_flow.{path}: {text}"
        assert stores.names() == []
    with pytest.raises(ConfigError) as raised:
        build_manager("quotes", flow, Workspace(tmp_path))
    assert str(raised.value) == f"quotes.data_flow.{path}: {text}"
    with pytest.raises(ConfigError) as raised:
        TopologyBuilder().add("quotes", ListFeed([]), data_flow=flow).build()
    assert str(raised.value) == f"containers.quotes.data_flow.{path}: {text}"


async def test_all_that_is_wrong_is_told_at_once_and_what_is_right_is_taken(tmp_path: Path) -> None:
    async with open_stores(tmp_path) as stores:
        with pytest.raises(ConfigError) as raised:
            await stores.open("q", DataFlow(mode="hybird", durability="durabel"))  # type: ignore[arg-type]
        assert len(raised.value.problems) == 2
        with pytest.raises(ConfigError, match=r"^q\.data_flow: expected a DataFlow, found \{'mode"):
            await stores.open("q", {"mode": "memory"})  # type: ignore[arg-type]
        flow = DataFlow(mode="file", durability="process", memory_limit_mb=1e9, min_free_disk_mb=0, keep_output="all")
        assert (await stores.open("q", flow)).mode == "file"


@pytest.mark.parametrize("megabytes", [0, -1, 1e-9, math.nan, math.inf, 1e308, "5", True])
def test_a_pool_is_a_positive_number_of_megabytes(megabytes: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^process_memory_mb: expected a positive number of megabytes, found "):
        open_stores(tmp_path, process_memory_mb=megabytes)
    topology = TopologyBuilder().add("data", ListFeed([])).build()
    with pytest.raises(ConfigError, match=r"^process_memory_mb: expected a positive number of megabytes, found "):
        Pipeline.from_topology(topology, process_memory_mb=megabytes)


@pytest.mark.parametrize("name", [None, 5, b"x", "", "\ud800", "x" * 70_000])
async def test_a_stores_name_is_text(name: Any, tmp_path: Path) -> None:
    async with open_stores(tmp_path) as stores:
        with pytest.raises(InvalidKey):
            await stores.open(name)
