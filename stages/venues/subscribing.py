"""Connections for many streams that are subscribed to by messages, for venues whose address names no stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from .venue import ConnectionPlan, Limits, nearest

Message = Callable[[str, Sequence[str]], dict[str, Any]]
"""What subscribes to a channel, of some symbols."""


def words(channels: Sequence[str], usual: Mapping[str, str], is_known: Callable[[str], bool]) -> list[str]:
    """The venue's words for channels, which are kinds of record or its own words, each once. Raises LookupError."""
    found = [usual.get(channel, channel) for channel in channels]
    for channel, word in zip(channels, found, strict=True):
        if not is_known(word):
            raise LookupError(
                f"no stream brings '{channel}'; {nearest(channel, [*usual, *sorted(set(usual.values()))])}"
            )
    return list(dict.fromkeys(found))


def plans(
    symbols: Sequence[str],
    channels: Iterable[str],
    url: str,
    limits: Limits,
    message: Message,
    *,
    whole: Iterable[str] = (),
    first: Sequence[bytes] = (),
    between: str = ":",
) -> list[ConnectionPlan]:
    """As few connections as the limits allow; each sends `first`, then a message for some symbols of each channel.

    Channels out of `whole` are of the venue, not of a symbol, and are asked for once. `between` a channel and a symbol
    stands what the venue puts there.
    """
    channels, whole = list(channels), set(whole)
    streams = [(word, "") for word in channels if word in whole]
    streams += [(word, symbol) for word in channels if word not in whole for symbol in dict.fromkeys(symbols)]
    found = []
    for begin in range(0, len(streams), limits.streams_per_connection):
        part = streams[begin : begin + limits.streams_per_connection]
        sends = list(first)
        for word in dict.fromkeys(word for word, _ in part):
            named = [symbol for other, symbol in part if other == word and symbol]
            for at in range(0, max(1, len(named)), limits.streams_per_request):
                sends.append(msgspec.json.encode(message(word, named[at : at + limits.streams_per_request])))
        names = tuple(f"{word}{between}{symbol}" if symbol else word for word, symbol in part)
        found.append(ConnectionPlan(url, tuple(sends), names))
    return found
