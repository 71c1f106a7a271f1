"""How compiled code finds what is known of a book: places in rows of int64, and why it stops.

Compiled code is kept on disk by the file it is in: whoever changes a number here, or levels.py, touches kernel.py too.
"""

from __future__ import annotations

from typing import Final

NONE: Final = -(2**63)
"""No price, no size, no sequence, no time."""

STATE, CHAIN, LIMIT, VERIFIED, JOINING, LAST, TIME, RECV, CROSSED, SEEN, SPAN, BEST = range(12)
"""A book's row: its state and chain, levels a side at most, whether checksums are compared, whether the group to come
joins a snapshot, sequence, event time and receive time of the last group, whether it is crossed, groups in its memory
of recent ones, the span of time of its last top, and (from BEST on) bid price and size, ask price and size as last
published."""
BOOK_WIDTH: Final = BEST + 4

EMPTY, SYNCING, LIVE, STALE = range(4)
"""Values of STATE."""

START, ROOM, COUNT, GONE, KNOWN = range(5)
"""A side's row: where its places begin, how many fit, how many are in use, how many of these hold a level that is gone
(size 0), and the key below which nothing is known."""
SIDE_WIDTH: Final = 5

PREVIOUS, CONTIGUOUS, NEXT, MONOTONE, UNCHAINED = range(5)
"""Values of CHAIN, in the order of `BookRule.chain`."""
CHAINS: Final = ("previous", "contiguous", "next", "monotone", "none")

FITS, WAITS, ACCEPTED = range(3)
"""Values of JOINING: nothing to join; the next group joins a snapshot if Python says so; it has said so."""

GROUP, QUOTES, TOPS, TRIMMED, UNDONE = range(5)
"""Counters that compiled code moves: the group it is at, rows of quotes, tops, trimmed levels, and steps to undo."""
COUNTERS: Final = 5

ENDED, UNUSUAL, NEEDS_ROOM, NEEDS_SPACE, CHECKED, IS_CROSSED = range(6)
"""Why compiled code stops: no group is left; a group that is not simply the next one of a live book (not applied); a
side or the output is too small (not applied); a checksum is to be compared (applied, not settled); a book has become
crossed (settled)."""

QUOTE_WIDTH: Final = 8
"""A quote: group, sequence, time, bid price and size, ask price and size, whether the book may be bad."""
TRIMMED_WIDTH: Final = 4
"""A level that was cut off: group, side, key, size."""
UNDO_WIDTH: Final = 3
"""A step to undo: side's row, key, size before (0: none)."""
RECENT: Final = 256
"""Groups of each book that are remembered, so that a repeated one is told from a late one."""
