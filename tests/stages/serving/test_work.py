"""`penstock replay --serve` in a process of its own: it says where it is, serves, and ends as it should."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner
from websockets.asyncio.client import connect

from pipeline.cli.program import penstock as program
from tests.stages.serving.parts import made, trade

FAULTS = """
faults:
  - {do: drop, stream: btcusdt@trade, message: 3}
  - {do: drop, stream: btcusdt@trade, message: 70}
"""


def capture(folder: Path) -> Path:
    """A capture of six trades, as hftbacktest's collector writes them."""
    file = folder / "btcusdt_20231114"
    lines = [b"%d %s\n" % (message.ts_recv, message.payload) for message in made(*map(trade, range(1, 7)))]
    file.write_bytes(b"".join(lines))
    return file


async def started(*words: str | Path) -> tuple[asyncio.subprocess.Process, str]:
    """The process, and the address of its streams, which it says on stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pipeline", "replay", *map(str, words), "--serve",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    while b"streams" not in (line := await process.stderr.readline()):
        assert line, "it ended before it said where it is"
    return process, line.split()[-1].decode()


async def test_it_serves_to_the_end_of_the_recording_and_says_what_it_did(tmp_path: Path) -> None:
    (tmp_path / "faults.yaml").write_text(FAULTS)
    process, url = await started(capture(tmp_path), "--faults", tmp_path / "faults.yaml", "--speed", "1000", "--json")
    async with connect(f"{url}/ws/btcusdt@trade") as socket:
        assert [json.loads(text)["t"] async for text in socket] == [1, 2, 4, 5, 6]
    out, _ = await process.communicate()
    assert process.returncode == 0
    done = json.loads(out)
    assert done["messages"] == 6 and done["unplayed"] == ["drop of btcusdt@trade, message 70, count 1"]


async def test_a_signal_ends_it_and_its_clients_are_told(tmp_path: Path) -> None:
    process, url = await started(capture(tmp_path), "--speed", "0.001")
    async with aiohttp.ClientSession() as session, session.get(url.replace("ws", "http") + "/api/v3/ping") as reply:
        assert await reply.json() == {}
    async with connect(f"{url}/ws/btcusdt@trade") as socket:
        await socket.recv()
        process.send_signal(signal.SIGTERM)
        await socket.wait_closed()
        assert socket.close_code == 1001
    out, _ = await process.communicate()
    assert process.returncode == 130 and b"served" in out


@pytest.fixture
def penstock() -> Callable[..., tuple[int, str]]:
    def call(*words: str | Path) -> tuple[int, str]:
        told = CliRunner().invoke(program, [str(word) for word in words], catch_exceptions=False)
        return told.exit_code, told.stderr

    return call


def test_what_is_wrong_with_what_was_asked_for_is_told(
    tmp_path: Path, penstock: Callable[..., tuple[int, str]]
) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text("faults:\n  - {do: drop, stream: x}\n  - {do: stall, seconds: 0}\n")
    code, told = penstock("replay", capture(tmp_path), "--serve", "--faults", file)
    assert code == 2 and told.count("faults.yaml:") == 2
    code, told = penstock("replay", tmp_path / "nothing.gz", "--serve")
    assert code == 1 and "nothing.gz" in told
    code, told = penstock("replay", capture(tmp_path), "--serve", "--venue", "binanc_us")
    assert code == 1 and "did you mean 'binance_us'" in told
