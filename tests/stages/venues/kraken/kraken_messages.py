"""Kraken's messages for tests: a capture of version 1 as it is, and as version 2 would have written it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from stages.messages import MessageKind, RawMessage
from stages.messages.captures import open_captures

FILES = tuple(f"cryptofeed/KRAKEN.{name}" for name in ("0", "ws.48.0", "ws.49.0", "ws.50.0"))


def captured(recordings: Path, *names: str) -> list[RawMessage]:
    return [message for run in open_captures([recordings / name for name in names]).runs() for message in run]


def books_of(messages: Sequence[RawMessage], pair: str) -> list[RawMessage]:
    """A connection's opening, and what came of one pair's book."""
    ending = f'"book-1000","{pair}"]'.encode()
    return [
        message
        for message in messages
        if message.kind == MessageKind.OPENED or message.payload.endswith(ending) or b"systemStatus" in message.payload
    ]


def as_v2(messages: Sequence[RawMessage]) -> list[RawMessage]:
    """Book messages as version 2 writes them: objects, numbers that are no texts, a checksum in snapshots too."""
    found = []
    for message in messages:
        if message.kind == MessageKind.OPENED:
            found.append(msgspec.structs.replace(message, url="wss://ws.kraken.com/v2"))
        if message.kind == MessageKind.RECEIVED and message.payload.startswith(b"["):
            found.append(msgspec.structs.replace(message, url="wss://ws.kraken.com/v2", payload=_book(message.payload)))
    return found


def _book(payload: bytes) -> bytes:
    _, *parts, _, pair = msgspec.json.decode(payload)
    told: dict[str, Any] = {}
    for part in parts:
        told |= part
    whole = "as" in told
    bids, asks = told.get("bs" if whole else "b", []), told.get("as" if whole else "a", [])
    time = max(float(entry[2]) for entry in (*bids, *asks))
    stamp = datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    checksum = told.get("c") or _checksum(bids, asks)
    sides = ",".join(
        f'"{name}":[{",".join(f"""{{"price":{entry[0]},"qty":{entry[1]}}}""" for entry in side)}]'
        for name, side in (("bids", bids), ("asks", asks))
    )
    kind = "snapshot" if whole else "update"
    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{pair}",{sides},"checksum":{checksum},'
        f'"timestamp":"{stamp}"}}]}}'
    ).encode()


def _checksum(bids: list[list[str]], asks: list[list[str]]) -> int:
    """As the documentation describes it, from the texts of a snapshot."""
    best = [sorted(asks, key=lambda one: Decimal(one[0]))[:10], sorted(bids, key=lambda one: -Decimal(one[0]))[:10]]
    parts = [text.replace(".", "").lstrip("0") for side in best for entry in side for text in entry[:2]]
    return zlib.crc32("".join(parts).encode())
