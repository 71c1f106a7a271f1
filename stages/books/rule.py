"""What a venue says of one of its book channels: how updates chain, how they join a snapshot, how deep a book is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import msgspec

Levels: TypeAlias = Sequence[tuple[int, int]]
"""Price and size of levels, best first, as whole numbers of the last decimal place in which the venue writes them."""


class BookRule(msgspec.Struct, frozen=True, kw_only=True):
    """One book channel's rule; a frozen value that the venue's file makes.

    chain:           how an event group follows the last one (`last` is its sequence):
                     "previous" prev_sequence == last (Binance futures `pu`), "contiguous" first_sequence == last + 1
                     (Binance spot `U`), "next" sequence == last + 1 (Bybit v5 `u`), "monotone" sequence > last, which
                     tells repeated and late groups but no gap, "none" no sequence at all.
    join:            how the first group after an HTTP snapshot of sequence L fits it:
                     "spot" first_sequence <= L + 1 <= sequence, "futures" first_sequence <= L <= sequence or
                     prev_sequence == L, "stream" where the snapshot comes in the stream and is itself the start.
                     Groups with sequence <= L are in the snapshot already.
    snapshots:       "http": to be fetched while updates are buffered; "stream": they come by themselves after
                     subscribing.
    depth:           levels a side that the venue keeps: after each group what lies deeper is cut off; None keeps all.
    known_depth:     levels a side in a full snapshot: one as long as this knows nothing beyond its last level; None
                     where snapshots are complete.
    reset_sequence:  a group with this sequence is a snapshot that begins the count anew (Bybit `u` == 1), not a gap.
    checksum:        `checksum(bids, asks)` of the best `checksum_depth` levels, compared with the `checksum` column
                     after each group that has one; None where the venue gives none.
    checksum_depth:  levels a side that it covers.
    checksum_places: decimal places of price and size in the venue's own text, as candidates: the first pair under
                     which a book's checksum is right is kept for that instrument; `((5, 8),)` where it is known.
    """

    chain: Literal["previous", "contiguous", "next", "monotone", "none"]
    join: Literal["spot", "futures", "stream"]
    snapshots: Literal["http", "stream"] = "http"
    depth: int | None = None
    known_depth: int | None = None
    reset_sequence: int | None = None
    checksum: Callable[[Levels, Levels], int] | None = None
    checksum_depth: int = 10
    checksum_places: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if (self.join == "stream") != (self.snapshots == "stream"):
            raise ValueError(
                f"expected join 'stream' exactly where snapshots come in the stream, found join '{self.join}' and "
                f"snapshots '{self.snapshots}'"
            )
        if self.checksum is not None and not self.checksum_places:
            raise ValueError("expected checksum_places beside a checksum, such as ((5, 8),); found none")
