"""Row structs of records, from the same definition as their Arrow schemas."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import Any, cast

import msgspec
import pyarrow as pa

from pipeline import Row

from .arrow import kind_named, schema_of
from .kinds import Column
from .types import DEFAULT_SCALE, Scaled, Scales


@lru_cache(maxsize=64)
def struct_of(kind: str, scale: int | Scales = DEFAULT_SCALE) -> type[Row]:
    """A frozen struct with a field for each column, to be given by name; what may be null may be left out.

    Prices, sizes and rates are `decimal.Decimal`, times int nanoseconds since 1970 (UTC), words str, and levels of a
    book dicts of `price`, `size` and `count`. `Batch.from_rows` makes the columns of `schema_of(kind, scale)` of it.
    """
    told = kind_named(kind)
    fields = [_field(column) for column in told.columns]
    made = msgspec.defstruct(
        "".join(part.capitalize() for part in kind.split("_")),
        fields,
        bases=(Row,),
        namespace={"arrow_schema": schema_of(kind, scale), "__doc__": f"{told.meaning[0].upper()}{told.meaning[1:]}."},
        module=__name__,
        frozen=True,
        kw_only=True,
        gc=False,
    )
    return cast(type[Row], made)


def _field(column: Column) -> tuple[str, Any] | tuple[str, Any, Any]:
    python = _python_type(column)
    if column.nullable:
        return column.name, python | None, None
    if column.default is not None:
        return column.name, python, python(column.default)
    return column.name, python


def _python_type(column: Column) -> Any:
    kind = column.type
    if kind is Scaled.LEVELS:
        return list[dict[str, Any]]
    if isinstance(kind, Scaled) or pa.types.is_decimal(kind):
        return Decimal
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind):
        return str
    if pa.types.is_timestamp(kind) or pa.types.is_integer(kind):
        return int
    return {pa.float64(): float, pa.bool_(): bool, pa.binary(): bytes}[kind]
