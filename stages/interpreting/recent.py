"""What the last trades of an instrument said, to know one that comes again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

WINDOW: Final = 8192
"""Trades of an instrument that are remembered."""
_MOST_PARTS: Final = 64
"""Parts that are kept apart before they are joined: a run of one trade is a part too."""
Ints = np.ndarray[Any, np.dtype[np.int64]]


class Content:
    """Price, size and side of each trade of a batch as whole numbers."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.columns = [_units(batch.column(name)) for name in ("price", "size", "aggressor_side")]

    def of(self, row: int) -> tuple[int, ...]:
        return tuple(int(column[row]) for column in self.columns)


class Recent:
    """By number or id, the last WINDOW trades.

    Remembering is cheap: rows are put aside as columns, and become entries only once a trade is looked up.
    """

    def __init__(self) -> None:
        self._said: dict[Any, tuple[int, ...]] = {}
        self._parts: list[list[Any]] = []
        """Names, prices, sizes and sides of trades that are no entries yet, the oldest first."""

    def remember(self, content: Content, rows: Ints, ids: Any) -> None:
        """These rows of a batch came; `ids` are those of all its rows."""
        rows = rows[-WINDOW:]
        names = ids[rows] if isinstance(ids, np.ndarray) else _objects([ids[row] for row in rows.tolist()])
        self._parts.append([names, *(column[rows] for column in content.columns)])
        if len(self._parts) > _MOST_PARTS:
            self._parts = [self._joined()]

    def get(self, name: Any) -> tuple[int, ...] | None:
        """What the trade of this name said; None where it is not among the last."""
        return self._entries().get(name)

    def __contains__(self, name: Any) -> bool:
        return name in self._entries()

    def plain(self) -> dict[str, Any]:
        said = self._entries()
        return {"names": list(said), "said": [list(content) for content in said.values()]}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Recent:
        made = cls()
        made._enter(plain["names"], (tuple(content) for content in plain["said"]))
        return made

    def _entries(self) -> dict[Any, tuple[int, ...]]:
        if self._parts:
            names, *columns = (column.tolist() for column in self._joined())
            self._parts = []
            self._enter(names, zip(*columns, strict=True))
        return self._said

    def _enter(self, names: Iterable[Any], said: Iterable[tuple[int, ...]]) -> None:
        entries = self._said
        for name, content in zip(names, said, strict=True):
            entries.pop(name, None)
            entries[name] = content
            if len(entries) > WINDOW:
                del entries[next(iter(entries))]

    def _joined(self) -> list[Any]:
        if len(self._parts) == 1:
            return self._parts[0]
        return [np.concatenate(column)[-WINDOW:] for column in zip(*self._parts, strict=True)]


def _units(column: pa.Array) -> Any:
    if pa.types.is_decimal128(column.type):
        return _objects([int(value.scaleb(column.type.scale)) for value in column.to_pylist()])
    if pa.types.is_decimal(column.type):
        return np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column)]
    return column.to_numpy()


def _objects(values: list[Any]) -> Any:
    found = np.empty(len(values), object)
    found[:] = values
    return found
