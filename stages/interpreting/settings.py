"""What a person may say of how messages become records, the same for live feeds, recordings and replays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import pyarrow as pa

from pipeline import Duration, Recipe, parse_duration
from stages.schemas import KINDS, Scales, schema_of


class Interpreting(Recipe, frozen=True):
    """How messages become records."""

    records: tuple[str, ...] | None = None
    """Kinds that are wanted, such as `[trade, quote]`; left out: all that the venue sends."""
    price_scale: int | None = None
    """Decimal places of prices; left out: those of the venue, 8 of most. A message with more is kept as a
    `quality_event`, which says so."""
    size_scale: int | None = None
    """Decimal places of sizes, likewise; of tokens whose sizes pass 10^(18 - size_scale) it has to be lower."""
    depth: int = 0
    """Levels a side of `book_snapshot` rows made from books; 0: none."""
    snapshot_every: Duration | None = None
    """At most one such row of an instrument in so much time; left out: one at each change."""
    quotes: Literal["venue", "book", "both"] = "venue"
    """Best quotes as the venue sends them, or as its books have them, or both."""

    stale_after: Duration | None = None
    """Nothing came of a channel of an instrument, or by a connection, for so long: a `stale` event; left out: none."""

    def __post_init__(self) -> None:
        schema_of("trade", self.scales(Scales()))
        for kind in self.records or ():
            if kind not in KINDS:
                raise ValueError(f"records: expected kinds out of {', '.join(KINDS)}, found '{kind}'")
        if self.depth < 0 or self.depth > 65_535:
            raise ValueError(f"depth: expected 0 to 65535 levels, found {self.depth}")

    def scales(self, usual: Scales) -> Scales:
        """Decimal places of records of a venue whose own are these."""
        return usual.declared(self.price_scale, self.size_scale)

    @property
    def every_ns(self) -> int:
        return 0 if self.snapshot_every is None else parse_duration(self.snapshot_every)

    @property
    def stale_ns(self) -> int | None:
        return None if self.stale_after is None else parse_duration(self.stale_after)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds that come out; what is wrong with the data always does."""
        wanted = KINDS if self.records is None else {*self.records, "quality_event"}
        return tuple(kind for kind in KINDS if kind in wanted)

    def schemas(self, usual: Scales) -> Mapping[str, pa.Schema]:
        """Columns by kind of record, of a venue whose decimal places are these."""
        scales = self.scales(usual)
        return {kind: schema_of(kind, scales) for kind in self.kinds}


def chosen(recipe: Interpreting) -> Interpreting:
    """These settings alone, of a recipe that has more."""
    names = Interpreting.__struct_fields__
    return Interpreting(**{name: getattr(recipe, name) for name in names})
