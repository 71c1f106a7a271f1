"""A channel or a connection that brings nothing is told once, at the first message that is late enough."""

from __future__ import annotations

from typing import Any

import pytest

from stages.interpreting import Interpreter, Interpreting
from stages.messages import MessageKind, Messages, RawMessage
from stages.venues import venue_named

SPOT = venue_named("binance_spot")
BTC = "BTCUSDT.BINANCE"
SECOND = 1_000_000_000
OPENED, CLOSED, IDLE = MessageKind.OPENED, MessageKind.CLOSED, MessageKind.IDLE


def trade(number: int, symbol: str = "BTCUSDT") -> bytes:
    return (
        f'{{"stream":"{symbol.lower()}@trade","data":{{"e":"trade","E":1700000000000,"s":"{symbol}","t":{number},'
        f'"p":"100.5","q":"2","T":1700000000000,"m":true,"M":true}}}}'
    ).encode()


def quote(number: int) -> bytes:
    return (
        f'{{"stream":"btcusdt@bookTicker","data":{{"u":{number},"s":"BTCUSDT","b":"100","B":"1","a":"101","A":"1"}}}}'
    ).encode()


def at(second: float, said: bytes | MessageKind, source: str = "one") -> tuple[float, bytes | MessageKind, str]:
    return second, said, source


def messages(*said: tuple[float, bytes | MessageKind, str]) -> list[RawMessage]:
    return [
        RawMessage(
            round(second * SECOND), seq,
            what if isinstance(what, MessageKind) else MessageKind.RECEIVED, source, "wss://x",
            b"" if isinstance(what, MessageKind) else what,
        )
        for seq, (second, what, source) in enumerate(said)
    ]  # fmt: skip


def stale(given: list[RawMessage], cut: int = 100, after: str | None = "10s") -> list[tuple[Any, ...]]:
    interpreter = Interpreter(SPOT, Interpreting(stale_after=after))
    found = []
    for begin in range(0, len(given), cut):
        interpreted = interpreter.interpret(Messages.of(given[begin : begin + cut]))
        for batch in interpreted.batches:
            if batch.schema.metadata[b"record"] == b"quality_event":
                found += [row for row in batch.to_pylist() if row["kind"] == "stale"]
    return [
        (row["channel"], row["instrument_id"], row["gap_start"].timestamp(), row["gap_end"].timestamp())
        for row in found
    ]


GIVEN = messages(
    at(0, OPENED), at(1, trade(1)), at(2, quote(1)), at(9, quote(2)), at(12, quote(3)), at(13, quote(4)),
    at(14, trade(2)), at(15, IDLE), at(22, IDLE), at(24, IDLE), at(24.5, IDLE), at(60, IDLE), at(61, trade(3)),
    at(65, quote(5)), at(72, IDLE),
)  # fmt: skip
TOLD = [
    ("trade", BTC, 1, 12),
    ("quote", BTC, 13, 24),
    ("one", None, 14, 24.5),
    ("trade", BTC, 14, 24.5),
    ("trade", BTC, 61, 72),
]


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 100])
def test_a_silence_is_told_once_wherever_messages_are_cut(cut: int) -> None:
    assert stale(GIVEN, cut) == TOLD


def test_it_goes_on_from_a_snapshot() -> None:
    for cut in range(1, len(GIVEN)):
        first, second = (Interpreter(SPOT, Interpreting(stale_after="10s")) for _ in range(2))
        batches = list(first.interpret(Messages.of(GIVEN[:cut])).batches)
        second.restore(first.snapshot())
        batches += second.interpret(Messages.of(GIVEN[cut:])).batches
        kinds = [
            row["kind"] for batch in batches if b"quality" in batch.schema.metadata[b"record"]
            for row in batch.to_pylist()
        ]  # fmt: skip
        assert kinds == ["stale"] * len(TOLD)


def test_nobody_asks_nobody_is_told() -> None:
    assert stale(GIVEN, after=None) == []


def test_heartbeats_and_replies_are_no_data_and_connections_are_watched_from_their_opening() -> None:
    reply = b'{"result":null,"id":1}'
    assert stale(messages(at(0, OPENED), *(at(second, reply) for second in range(1, 14)))) == [("one", None, 0, 11)]


def test_a_connection_that_is_closed_is_not_silent_but_its_channels_are() -> None:
    given = messages(at(0, OPENED), at(1, trade(1)), at(5, CLOSED), at(30, IDLE), at(31, OPENED), at(42, IDLE))
    assert stale(given) == [("trade", BTC, 1, 30), ("one", None, 31, 42)]


def test_the_connections_that_are_silent_now_are_given_once() -> None:
    interpreter = Interpreter(SPOT, Interpreting(stale_after="10s"))
    runs = [GIVEN[:5], GIVEN[5:9], GIVEN[9:11], GIVEN[11:12], GIVEN[12:]]
    assert [interpreter.interpret(Messages.of(run)).silent for run in runs] == [(), (), ("one",), (), ()]
