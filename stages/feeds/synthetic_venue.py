"""A made-up venue: messages as it would send them, interpreted as a capture of them would be."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec
import pyarrow as pa

from pipeline import Context, Footprint, parse_instant
from stages.messages import Messages, RawMessage
from stages.messages.captures import CaptureCounts

from .captured import RUN_MESSAGES, CaptureFeed
from .clock import ReplayClock
from .interpretation import Interpretation
from .recording import span_of_several

if TYPE_CHECKING:
    from stages.venues import Venue


class SyntheticVenue(Interpretation, frozen=True):
    """A seeded market of a venue, as raw messages that are read by the code that reads the venue itself.

    ```yaml
    containers:
      market:
        type: synthetic_venue
        symbols: [BTCUSDT, ETHUSDT]
        seconds: 60
        clock: {speed: 50}
    ```

    Trades, best quotes, updates of books and the snapshot that each of them begins with, late, as it does where it has
    to be fetched. Without `seed` the run's seed is used.
    """

    is_feed: ClassVar[bool | None] = True

    tuning: ClassVar[frozenset[str]] = frozenset({"batch_rows", "clock"})

    venue: str | None = "binance_spot"
    symbols: tuple[str, ...] = ("BTCUSDT",)
    seconds: int = 60
    start: str = "2024-01-01T00:00:00Z"
    seed: int | None = None
    batch_rows: int = RUN_MESSAGES
    clock: ReplayClock = ReplayClock()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < len(set(self.symbols)) == len(self.symbols):
            raise ValueError(f"symbols: expected distinct names, found {', '.join(self.symbols) or 'none'}")
        if self.seconds < 0 or self.batch_rows < 1:
            raise ValueError(f"expected 0 or more seconds and a batch_row, found {self.seconds} and {self.batch_rows}")
        try:
            parse_instant(self.start)
        except ValueError:
            raise ValueError(f"start: expected a time such as 2024-01-01T00:00:00Z, found {self.start!r}") from None

    def build(self, context: Context) -> CaptureFeed:
        seeded = self if self.seed is not None else msgspec.structs.replace(self, seed=context.seed)
        return CaptureFeed(
            MadeUp(seeded), seeded, run_messages=self.batch_rows, log=context.log, pacing=self.clock.pacing
        )  # fmt: skip

    def record_schemas(self, inputs: Mapping[str, pa.Schema | None]) -> Mapping[str, pa.Schema]:
        return self.schemas_sent(self.of_venue().scales)

    def footprint(self, members: int, rows: int | None) -> Footprint:
        return Footprint(rows=rows)

    def span(self, rows: int | None = None) -> tuple[int, int] | None:
        """Makes all of it once."""
        return span_of_several(self.build(Context()).batches(), rows)

    def of_venue(self) -> Venue:
        """Raises LookupError where nobody has made up messages of this venue."""
        from stages.venues import venue_named

        return venue_named(self.venue or "binance_spot")

    def messages(self) -> Iterator[RawMessage]:
        """In the order received, numbered by symbol; made as they are asked for."""
        venue, start = self.of_venue(), parse_instant(self.start)
        parts = [venue.made_up(symbol, start, self.seconds, self.seed or 0) for symbol in self.symbols]
        return heapq.merge(*parts, key=lambda message: message.ts_recv)

    def write(self, file: Path) -> None:
        """The same as lines that `replay` reads: time of receipt in ns, a blank, the message. Of one symbol a file."""
        with file.open("wb") as lines:
            for message in self.messages():
                lines.write(b"%d %b\n" % (message.ts_recv, message.payload))


class MadeUp:
    """Messages that are made as they are read, in place of a capture's."""

    files: tuple[Path, ...] = ()

    def __init__(self, recipe: SyntheticVenue) -> None:
        self.recipe = recipe

    def venue(self) -> Venue:
        return self.recipe.of_venue()

    def runs(self, counts: CaptureCounts | None = None, *, most: int = RUN_MESSAGES) -> Iterator[Messages]:
        counts = CaptureCounts() if counts is None else counts
        messages = self.recipe.messages()
        while rows := list(islice(messages, most)):
            numbered = [
                msgspec.structs.replace(row, ingest_seq=number) for number, row in enumerate(rows, counts.messages)
            ]
            counts.messages += len(rows)
            yield Messages.of(numbered)
