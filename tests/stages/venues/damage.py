"""Bytes spoilt as bytes are: cut, flipped, moved, repeated."""

from __future__ import annotations

import random


def damaged(message: bytes, chance: random.Random) -> bytes:
    """One message, spoilt in one of the ways that bytes are."""
    at = chance.randrange(len(message))
    other = chance.randrange(len(message))
    piece = bytes([chance.choice(b'0123456789"{}[],:.-eE \\\x00\x7f\xc3tfnuabxABXTU')])
    ways = [
        message[:at],
        message[:at] + piece + message[at + 1 :],
        message[:at] + piece + message[at:],
        message[:at] + message[at + 1 :],
        message[: min(at, other)] + message[max(at, other) :],
        message[:at] + message[min(at, other) : max(at, other)] + message[at:],
        message[:at] + bytes([message[at] ^ (1 << chance.randrange(8))]) + message[at + 1 :],
        message[at:],
    ]
    return chance.choice(ways)
