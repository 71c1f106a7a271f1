"""What a person may declare about a recording; everything left out is worked out from the files."""

from __future__ import annotations

from typing import Literal

from pipeline import Duration, Stage
from stages.schemas import RECORD_KINDS, decimal_type


class Declaration(Stage, frozen=True):
    """Fields about the content of a recording, shared by all readers. See `Replay` for their use."""

    instrument: str | None = None
    """`SYMBOL.VENUE`: names the instrument of a CSV or parquet file, selects one in a LEAN folder."""
    schema: Literal[
        "auto",
        "trade",
        "quote",
        "bar",
        "book_delta",
        "book_snapshot",
        "funding_rate",
        "open_interest",
        "liquidation",
        "instrument_status",
        "instrument",
        "quality_event",
    ] = "auto"
    """The kind of record; where a file's content does not tell, or holds several."""
    columns: dict[str, str] | list[str] | None = None
    """Source column -> standard column; or the standard columns in file order, where a file has no header."""
    time_column: str | None = None
    time_format: str | None = None
    """s, ms, us, ns, iso, or a strptime format."""
    time_zone: str = "UTC"
    delimiter: str | None = None
    header: bool | None = None
    price: Literal["last", "bid", "ask", "mid"] | None = None
    """Which price of a quote bar; `last` asks for trade bars."""
    interval: Duration | None = None
    """Length of the bars of a CSV or parquet file, such as `1m`; None takes the smallest step between two rows."""
    stamp: Literal["start", "end"] = "start"
    """Which end of a bar the time column of a CSV or parquet file holds."""
    scale: int | None = None
    """Decimal places of prices, 8 unless declared; of a capture those of its venue."""
    size_scale: int | None = None
    """Decimal places of sizes; above 10 they are decimal128."""
    numbers: Literal["auto", "decimal", "float64"] = "auto"
    """`auto` keeps text and decimals exact, and floats of parquet files float64 unless `scale` is declared."""

    def __post_init__(self) -> None:
        for name in ("scale", "size_scale"):
            value = getattr(self, name)
            if value is not None:
                try:
                    decimal_type(value)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of record this declaration admits of tables that are known by their columns."""
        return RECORD_KINDS if self.schema == "auto" else (self.schema,)
