"""Prints the first and last rows it receives as a table, and counts the rest."""

from __future__ import annotations

from collections import deque
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from pipeline import Batch, Context, Sink, Stage, StateOf

if TYPE_CHECKING:
    from rich.table import Table

BOOKKEEPING = (
    *("ts_recv", "ingest_seq", "source_id", "sequence", "flags", "bar_start", "bar_end", "interval_ns"),
    *("bar_kind", "price_type", "source", "is_complete", "is_empty"),
)
"""Columns not shown unless asked for."""


class Console(Stage, frozen=True):
    """Shows what flows: the first and the last rows, once all have come.

    ```yaml
    containers:
      show:
        type: console
        inputs: [features]
        first: 5
        last: 5
        columns: [ts_event, instrument_id, close]
    ```

    Without `columns` all are shown that hold a value in a shown row, except bookkeeping such as `ingest_seq`,
    which is shown if named. `stderr` keeps standard output free.
    """

    is_feed: ClassVar[bool | None] = False

    first: int = 5
    last: int = 5
    columns: tuple[str, ...] = ()
    stderr: bool = False

    def __post_init__(self) -> None:
        for name in ("first", "last"):
            if not 0 <= getattr(self, name) <= 10_000:
                raise ValueError(f"{name}: expected 0 to 10000 rows, found {getattr(self, name)}")

    def build(self, context: Context) -> ConsoleSink:
        return ConsoleSink(self, context.name)


class ConsoleSink(Sink):
    """Holds at most `first` + `last` rows; prints in a thread when its inputs have ended."""

    runs_in = "thread"

    def __init__(self, recipe: Console, name: str) -> None:
        self._recipe = recipe
        self._name = name
        self._head: list[pa.RecordBatch] = []
        self._tail: deque[pa.RecordBatch] = deque()
        self._rows = 0
        self._ended = False

    def on_batch(self, batch: Batch) -> None:
        columns, rows = batch.columns, batch.num_rows
        into_head = min(max(self._recipe.first - self._rows, 0), rows)
        if into_head:
            self._head.append(_copied(columns.slice(0, into_head)))
        into_tail = min(rows - into_head, self._recipe.last)
        if into_tail:
            self._tail.append(_copied(columns.slice(rows - into_tail)))
        held = sum(piece.num_rows for piece in self._tail)
        while self._tail and held - self._tail[0].num_rows >= self._recipe.last:
            held -= self._tail.popleft().num_rows
        self._rows += rows
        self.committed_rows = self._rows

    def snapshot(self) -> Any:
        """The rows that may be shown; nothing but their number once they have been."""
        shown: dict[str, Any] = {"head": list(self._head), "tail": list(self._tail)}
        return self._state_of().seal({"rows": self._rows, **({} if self._ended else shown)})

    def restore(self, state: Any) -> None:
        found = self._state_of().open(state)
        self._rows = self.committed_rows = found["rows"]
        self._head, self._tail = list(found.get("head", ())), deque(found.get("tail", ()))
        self._ended = "head" not in found

    def _state_of(self) -> StateOf:
        return StateOf("console", 1, {"first": self._recipe.first, "last": self._recipe.last})

    def on_end(self) -> None:
        from rich.console import Console as Terminal

        head = [row for piece in self._head for row in piece.to_pylist()]
        tail = [row for piece in self._tail for row in piece.to_pylist()][-self._recipe.last :]
        if not self._recipe.last:
            tail = []
        rows: list[dict[str, Any] | None] = [*head]
        if self._rows > len(head) + len(tail):
            rows.append(None)
        rows += tail
        terminal = Terminal(stderr=self._recipe.stderr)
        title = f"{self._name}: {self._rows:,} rows"
        terminal.print(_drawn(rows, self._recipe.columns, title) if rows else title)
        self._ended = True

    def progress(self) -> str:
        return f"{self._rows:,} rows"


def _copied(columns: pa.RecordBatch) -> pa.RecordBatch:
    """A few rows that do not keep the batch they come from alive."""
    return pa.RecordBatch.from_arrays([pa.concat_arrays([column]) for column in columns.columns], schema=columns.schema)


def _drawn(rows: list[dict[str, Any] | None], wanted: tuple[str, ...], title: str) -> Table:
    from rich.table import Table

    names = list(wanted)
    if not names:
        shown = [row for row in rows if row]
        names = list(dict.fromkeys(name for row in shown for name, value in row.items() if value is not None))
        names = [name for name in names if name not in BOOKKEEPING]
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(name, justify="left" if name.endswith("_id") else "right", no_wrap=name.startswith("ts_"))
    for row in rows:
        table.add_row(*[("..." if row is None else _text(row.get(name))) for name in names])
    return table


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value).removesuffix("+00:00").removesuffix("+0000")
    return text.rstrip("0") if isinstance(value, datetime) and "." in text else text
