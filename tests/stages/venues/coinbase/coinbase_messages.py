"""Coinbase's messages for tests: a capture of Exchange as it is, and as Advanced Trade would have written it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from stages.messages import MessageKind, RawMessage
from stages.messages.captures import open_captures

FILES = ("cryptofeed/COINBASE.0", "cryptofeed/COINBASE.ws.28.0")
URL = "wss://advanced-trade-ws.coinbase.com"


def captured(recordings: Path, *names: str) -> list[RawMessage]:
    return [message for run in open_captures([recordings / name for name in names]).runs() for message in run]


def about(messages: Sequence[RawMessage], *products: str) -> list[RawMessage]:
    """A connection's opening, and what is about some products."""
    marks = [f'"product_id":"{product}"'.encode() for product in products]
    return [
        message
        for message in messages
        if message.kind == MessageKind.OPENED
        or (message.kind == MessageKind.RECEIVED and any(mark in message.payload[:300] for mark in marks))
    ]


def as_advanced(messages: Sequence[RawMessage]) -> list[RawMessage]:
    """The same as Advanced Trade writes it: in envelopes, numbered one after another by connection."""
    found: list[RawMessage] = []
    number = 0
    for message in messages:
        if message.kind == MessageKind.OPENED:
            found.append(msgspec.structs.replace(message, url=URL))
            number = 0
        elif message.kind == MessageKind.RECEIVED:
            told = _told(msgspec.json.decode(message.payload))
            if told is not None:
                body = {"channel": told[0], "client_id": "", "timestamp": told[1], "sequence_num": number}
                payload = msgspec.json.encode({**body, "events": [told[2]]})
                found.append(msgspec.structs.replace(message, url=URL, payload=payload))
                number += 1
    return found


def _told(said: dict[str, Any]) -> tuple[str, str, dict[str, Any]] | None:
    """Channel, time and event."""
    time, product = said.get("time", "2021-04-17T16:43:37Z"), said.get("product_id")
    if said["type"] in ("snapshot", "l2update"):
        changes = said.get("changes") or [
            *(("buy", *level) for level in said["bids"]),
            *(("sell", *level) for level in said["asks"]),
        ]
        updates = [
            {
                "side": "bid" if side == "buy" else "offer",
                "event_time": time,
                "price_level": price,
                "new_quantity": size,
            }
            for side, price, size in changes
        ]
        kind = "snapshot" if said["type"] == "snapshot" else "update"
        return "l2_data", time, {"type": kind, "product_id": product, "updates": updates}
    if said["type"] in ("match", "last_match"):
        trade = {
            "trade_id": str(said["trade_id"]),
            "product_id": product,
            "price": said["price"],
            "size": said["size"],
            "side": said["side"].upper(),
            "time": time,
        }
        return "market_trades", time, {"type": "update" if said["type"] == "match" else "snapshot", "trades": [trade]}
    return None
