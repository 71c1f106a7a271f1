"""`penstock replay --serve` says where it is, serves, and ends as it should."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli.program import penstock as program
from stages.serving.work import serve_work
from tests.stages.serving.parts import asked, connect, made, trade

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


def started(*words: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "replay", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


class Watcher:
    """Whoever asked for the work."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.said: Callable[[], str] = str
        self.told = asyncio.Event()

    def tell(self, said: Callable[[], str]) -> None:
        self.said = said
        self.told.set()


async def test_it_serves_to_the_end_of_the_recording_and_says_what_it_did(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "penstock.serving")
    (tmp_path / "faults.yaml").write_text(FAULTS)
    watcher = Watcher()
    work = asyncio.create_task(
        serve_work(
            watcher, paths=[capture(tmp_path)], host="127.0.0.1", port=0, speed=1000, faults=tmp_path / "faults.yaml",
            venue=None, wait_for=1, loop=False,
        )
    )  # fmt: skip
    await watcher.told.wait()
    (url,) = re.findall(r"ws://\S+", caplog.text)
    async with connect(f"{url}/ws/btcusdt@trade") as socket:
        assert [json.loads(text)["t"] async for text in socket] == [1, 2, 4, 5, 6]
    done = await work
    assert watcher.said() == "6 messages of the recording, to 2023-11-14T22:13:20Z, 0 clients now"
    assert done.figures["messages"] == 6
    assert done.figures["unplayed"] == ["drop of btcusdt@trade, message 70, count 1"]
    assert ("unplayed", "drop of btcusdt@trade, message 70, count 1") in done.words


async def test_a_signal_ends_the_command_and_its_clients_are_told(tmp_path: Path) -> None:
    with started(capture(tmp_path), "--serve", "--speed", "0.001") as process:
        assert process.stderr is not None
        while "streams" not in (line := await asyncio.to_thread(process.stderr.readline)):
            assert line, "it ended before it said where it is"
        url = line.split()[-1]
        assert (await asked(f"{url.replace('ws:', 'http:')}/api/v3/ping"))[:2] == (200, {})
        async with connect(f"{url}/ws/btcusdt@trade") as socket:
            await socket.recv()
            process.send_signal(signal.SIGTERM)
            await socket.wait_closed()
            assert socket.close_code == 1001
        out, _ = await asyncio.to_thread(process.communicate)
    assert process.returncode == 130 and "served" in out


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
