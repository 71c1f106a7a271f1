"""What a person may say of recordings that hold several kinds of record, or messages as they were received."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from pipeline import Duration, InputError, parse_duration
from stages.schemas import KINDS, Scales

from .declaration import Declaration

if TYPE_CHECKING:
    from stages.interpreting import Interpreting

OF_TABLES = ("instrument", "columns", "time_column", "time_format", "time_zone", "delimiter", "header", "price",
             "interval", "stamp", "numbers")  # fmt: skip
"""Declared of tables alone: a capture's messages say it themselves."""
LATENESS_NS = 2_000_000_000
"""How far event time may step back in what several channels brought: a venue stamps each by itself, and what it does
not stamp stands at the time it was received, by a clock of ours."""


class Interpretation(Declaration, frozen=True):
    """Fields about captures and about recordings of several kinds of record. See `Replay` for their use."""

    venue: str | None = None
    """Whose messages a capture holds, such as `binance_spot`; left out, it is found from the messages."""
    records: tuple[str, ...] | None = None
    """Kinds that are wanted, such as `[trade, quote]`; left out: all but a venue's own bars, which have to be named."""
    depth: int = 0
    """Levels a side of `book_snapshot` rows made from books; 0: none."""
    snapshot_every: Duration | None = None
    """At most one such row of an instrument in so much time; left out: one at each change."""
    quotes: Literal["venue", "book", "both"] = "venue"
    """Best quotes as the venue sent them, or as its books have them, or both."""
    lateness: Duration | None = None
    """How far event time may step back; rows that are later miss bars that were closed. 2s unless declared for several
    kinds of record, 0 for one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for kind in self.records or ():
            if kind not in KINDS:
                raise ValueError(f"records: expected kinds out of {', '.join(KINDS)}, found '{kind}'")
        if not 0 <= self.depth <= 65_535:
            raise ValueError(f"depth: expected 0 to 65535 levels, found {self.depth}")
        if self.snapshot_every is not None and not self.depth:
            raise ValueError(
                f"snapshot_every: expected `depth` beside it, the levels a side of each book_snapshot, found 0 and "
                f"'{self.snapshot_every}'; add `depth: 10`"
            )
        if self.venue is not None:
            from stages.venues import venue_named

            try:
                venue_named(self.venue)
            except LookupError as error:
                raise ValueError(f"venue: {error.args[0]}") from None

    @property
    def kinds_sent(self) -> tuple[str, ...]:
        """Kinds a capture is read as; what is wrong with it always comes."""
        wanted = {*KINDS} - {"bar"} if self.records is None else {*self.records, "quality_event"}
        return tuple(kind for kind in KINDS if kind in wanted)

    def lateness_ns(self, *, several: bool) -> int:
        if self.lateness is not None:
            return parse_duration(self.lateness)
        return LATENESS_NS if several else 0

    def schemas_sent(self, usual: Scales) -> Mapping[str, pa.Schema]:
        """Columns of what a capture is read as, by kind of record, of a venue whose decimal places are these.

        Raises `InputError` for what is said of tables.
        """
        if self.schema != "auto":
            raise InputError(
                f"{self.path_said}: expected no `schema`, since a capture holds several kinds of record, found "
                f"{self.schema}; write `records: [{self.schema}]`"
            )
        for name in OF_TABLES:
            found = getattr(self, name)
            if found != type(self).__struct_defaults__[type(self).__struct_fields__.index(name)]:
                raise InputError(
                    f"{self.path_said}: expected no `{name}`, since the messages of a capture say all that is known, "
                    f"found {found!r}; remove it (`records` chooses kinds of record)"
                )
        return self.interpreting().schemas(usual)

    def interpreting(self) -> Interpreting:
        """The same for what interprets messages."""
        from stages.interpreting import Interpreting

        return Interpreting(
            records=self.kinds_sent,
            price_scale=self.scale,
            size_scale=self.size_scale,
            depth=self.depth,
            snapshot_every=self.snapshot_every,
            quotes=self.quotes,
        )

    @property
    def path_said(self) -> str:
        path = getattr(self, "path", None)
        return str(path[0] if isinstance(path, tuple) and path else path)
