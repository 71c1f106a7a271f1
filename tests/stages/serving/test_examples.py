"""The examples of serving and connecting work as they are told, over a real socket."""

from __future__ import annotations

from pathlib import Path

from pipeline import Pipeline
from stages.messages import MessageKind, Messages, RawMessage
from stages.recording.ingesting import ingest
from stages.recording.recorder import open_recorder
from stages.recording.settings import Recording
from stages.serving import ReplayServer, Snapshot, load_faults
from stages.venues import venue_named
from tests.stages.serving.parts import SPOT, Taker, asked, connect, made, recording, trade

CONFIGS = Path(__file__).parents[3] / "configs"


async def test_a_configuration_of_a_live_feed_connects_to_the_server_as_to_the_venue(
    recordings: Path, tmp_path: Path
) -> None:
    file = SPOT.read(recordings, 3000)
    async with ReplayServer(recording(file), speed=50) as server:
        addresses = {"websocket_url": server.websocket_url, "http_url": server.http_url}
        pipeline = Pipeline.from_yaml(
            CONFIGS / "live.yaml",
            overrides=[f"containers.market.{name}={address}" for name, address in addresses.items()],
            output=tmp_path,
            limit=500,
        )
        summary = await pipeline.run()
    assert summary.status == "complete" and summary.ledger.containers["market"].sent == 500


async def test_a_recording_of_ours_is_served_as_the_capture_it_was_made_of(recordings: Path, tmp_path: Path) -> None:
    capture = recordings / "cryptofeed" / "BINANCE.ws.1.0", recordings / "cryptofeed" / "BINANCE.http.0.0"
    await ingest(capture, tmp_path / "recorded", Recording(), venue=None)
    said = []
    for path in (capture, tmp_path / "recorded"):
        async with ReplayServer(path) as server:
            streams = "nknusdt@depth@100ms/blzeth@depth@100ms/nknusdt@bookTicker"
            async with connect(f"{server.websocket_url}/stream?streams={streams}") as socket:
                said.append([text async for text in socket])
            status, book, _ = await asked(f"{server.http_url}/api/v3/depth?symbol=NKNUSDT&limit=20")
            said[-1].append(str(book))
            assert status == 200
    assert said[0] == said[1] and len(said[0]) > 20


async def test_a_recording_that_begins_with_a_connection_is_served_too(tmp_path: Path) -> None:
    """As every one of a live feed does: its first run of messages is the opening of a connection, and nothing else."""
    opened = Messages.of([RawMessage(1_700_000_000_000_000_000, 0, MessageKind.OPENED, "one", "ws://somewhere", b"")])
    async with open_recorder(tmp_path / "recorded") as recorder:
        for messages in (opened, made(trade(1), trade(2))):
            await recorder.take(messages, venue_named("binance_spot"))
    for venue in (None, "binance_spot"):
        async with (
            ReplayServer(tmp_path / "recorded", venue=venue) as server,
            connect(f"{server.websocket_url}/stream?streams=btcusdt@trade") as socket,
        ):
            assert server.venue == "binance_spot"
            assert [str(text).encode() async for text in socket] == [trade(1), trade(2)]


async def test_the_faults_are_played(recordings: Path) -> None:
    faults = load_faults(CONFIGS / "serving" / "faults.yaml")
    file = SPOT.read(recordings, 9000)
    of_messages = [fault for fault in faults if not isinstance(fault, Snapshot)]
    async with ReplayServer(recording(file), faults=of_messages[:5], wait_for=2) as server:
        taker = Taker(server, SPOT)
        await taker.take_all(lambda: connect(f"{server.websocket_url}/ws/somebody@trade"))
        assert server.figures()["unplayed"] == []
    assert len(faults) == 9 and {type(fault).__name__ for fault in faults} == {
        "Cut", "Disconnect", "Drop", "Duplicate", "Refuse", "Reorder", "Snapshot", "Stall",
    }  # fmt: skip


def test_the_readers_are_told_of_files_that_are_there() -> None:
    words = (CONFIGS / "serving" / "README.md").read_text()
    named = [Path(word) for word in words.replace("`", " ").split() if word.startswith("configs/")]
    assert {path.name for path in named} == {"live.yaml", "faults.yaml"}
    assert all((CONFIGS.parent / path).is_file() for path in named)
