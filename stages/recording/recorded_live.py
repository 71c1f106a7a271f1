"""The recipe of a live feed that may be recorded."""

from __future__ import annotations

from typing import ClassVar

from pipeline import Context, Feed, InputError
from stages.live.live import INSTALL, Live

from .settings import RecordTo


class RecordedLive(Live, frozen=True, kw_only=True):
    """What a venue sends now, as records: its connections are kept, its books made whole from snapshots.

    ```yaml
    containers:
      market:
        type: live
        venue: binance_spot
        symbols: [BTCUSDT, ETHUSDT]
        channels: [trade, quote, book_delta]
        record: {folder: recordings/binance, retention: 7d, roll_every: 15m}
      minutes:
        type: bars
        every: 1m
        inputs: [{from: market, records: trade}]
    ```

    `channels` are kinds of record, or the venue's own words, such as `depth@100ms`. Whatever is missing, late, twice or
    unreadable is a row of kind `quality_event`, and so is every connection that is lost and comes back. Needs the
    extra `live`.

    A slow consumer makes the venue wait: what came and is not taken yet is bounded by `buffer_messages` and
    `buffer_mb`, and nothing of it is lost. A venue that will not wait closes the connection, which is told.

    With `record:`, messages are on disk before they are interpreted, and their records in parquet files soon after:
    `penstock record CONFIG` does that and nothing else, in a run containers go on from the same records.
    """

    tuning: ClassVar[frozenset[str]] = Live.tuning | {"record"}

    record: RecordTo | None = None
    """Where and how it is recorded; left out: it is not."""

    def build(self, context: Context) -> Feed:
        if self.record is None:
            return super().build(context)
        try:
            from .recorded_feed import RecordedFeed
        except ImportError as error:
            raise InputError(f"a live feed needs websockets and aiohttp ({error}); try: {INSTALL}") from error
        return RecordedFeed(self, self.record, context)
