"""Kraken's book messages of version 1, read without its decoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from stages.schemas import Scales
from tests.stages.books.groups import Event

SCALES = Scales(8, 8)


def events(path: Path) -> Iterator[Event]:
    """The book messages of a cryptofeed capture: receive time in seconds, then the message."""
    with path.open("rb") as lines:
        for line in lines:
            stamp, _, body = line.partition(b": ")
            if not body.startswith(b"[") or b'"book-' not in body:
                continue
            _, *parts, _, pair = msgspec.json.decode(body)
            told: dict[str, Any] = {}
            for part in parts:
                told |= part
            snapshot = "as" in told
            sides = [told.get(side, []) for side in (("bs", "as") if snapshot else ("b", "a"))]
            times = [level[2] for levels in sides for level in levels]
            yield Event(
                pair,
                [(level[0], level[1]) for level in sides[0]],
                [(level[0], level[1]) for level in sides[1]],
                time=max((int(text.replace(".", "")) * 1000 for text in times), default=None),
                snapshot=snapshot,
                checksum=int(told["c"]) if "c" in told else None,
                recv=int(stamp.replace(b".", b"").ljust(17, b"0")) * 100,
            )
