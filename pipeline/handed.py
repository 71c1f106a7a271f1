"""Rows a program has in its hands, in whatever form, as a table that counts by its content."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import pyarrow as pa

from .errors import InputError
from .frames import Batch

_FORMS = "a pyarrow Table or RecordBatch, a polars or pandas DataFrame, or a dict of columns"


class HandedTable:
    """A table given to a feed from Python. Two of them are equal where they hold the same rows.

    Memory is shared with what was handed over, as far as its types allow; it must not be changed while a run reads it.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    @classmethod
    def of(cls, rows: Any) -> HandedTable:
        """Arrow data, a polars or pandas frame (its index of times becomes a column), or a dict of columns.

        Raises `InputError` saying what was expected where it is anything else, or has several tables in it.
        """
        if isinstance(rows, HandedTable):
            return rows
        try:
            return cls(_plain_text(_as_table(rows)))
        except (pa.ArrowException, TypeError, ValueError) as error:
            told = f"; {error}" if str(error) else ""
            raise InputError(f"the table: expected {_FORMS}, found {_kind(rows)}{told}") from error

    @cached_property
    def hash(self) -> str:
        """Over the rows in canonical form, however they are cut. Blocking: reads every value, once."""
        from .hashing import TableHash

        total = TableHash()
        for batch in self.table.to_batches():
            total.update(batch)
        return total.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HandedTable) and (self.table is other.table or self.hash == other.hash)

    def __hash__(self) -> int:
        return hash(self.hash)

    def __repr__(self) -> str:
        return f"HandedTable({self.table.num_rows} rows, {self.hash})"


def _as_table(rows: Any) -> pa.Table:
    package = type(rows).__module__.partition(".")[0]
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    if isinstance(rows, Batch):
        return pa.Table.from_batches([rows.columns])
    if isinstance(rows, Mapping):
        return pa.table({str(name): values for name, values in rows.items()})
    if package == "pandas" and hasattr(rows, "columns"):
        return pa.Table.from_pandas(_one_level(rows), nthreads=1)
    if package == "polars" and hasattr(rows, "collect"):
        raise TypeError("it is lazy; call .collect() first")
    if hasattr(rows, "__arrow_c_stream__") and (package != "polars" or hasattr(rows, "columns")):
        return pa.table(rows)
    raise TypeError


def _one_level(frame: Any) -> Any:
    """A frame whose columns have one level of names: one that is the same for all columns says nothing of them."""
    while getattr(frame.columns, "nlevels", 1) > 1:
        levels = range(frame.columns.nlevels)
        same = [level for level in levels if frame.columns.get_level_values(level).nunique() == 1]
        if not same:
            shown = ", ".join(str(name) for name in list(frame.columns)[:6])
            raise ValueError(
                f"its columns are of several tables ({shown}); choose one, such as frame.xs('NAME', axis=1, level=1)"
            )
        frame = frame.droplevel(same[-1], axis=1)
    return frame


def _plain_text(table: pa.Table) -> pa.Table:
    """Texts in the one form that everything reads; other columns share their memory."""
    for index, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_string_view(kind) or pa.types.is_large_string(kind):
            table = table.set_column(index, field.with_type(pa.utf8()), table.column(index).cast(pa.utf8()))
    return table


def _kind(rows: Any) -> str:
    return f"{type(rows).__module__.partition('.')[0]}.{type(rows).__name__}".removeprefix("builtins.")
