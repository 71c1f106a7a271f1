"""The words of dictionary columns of several sources, by codes that mean the same in all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from stages.schemas import Names


class Words:
    """Takes batches of one schema apart into columns, dictionaries as codes of its own, and joins them again."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self._names = {
            place: Names() for place, field in enumerate(schema) if pa.types.is_dictionary(field.type)
        }  # fmt: skip

    def reader(self) -> Callable[[pa.RecordBatch], list[pa.Array]]:
        """Takes the batches of one source apart, which mostly share their dictionaries."""
        known: dict[int, tuple[pa.Array, Any]] = {}

        def columns(batch: pa.RecordBatch) -> list[pa.Array]:
            found = list(batch.columns)
            for place, names in self._names.items():
                column = found[place]
                before = known.get(place)
                if before is None or not before[0].equals(column.dictionary):
                    codes = [names.code(word) for word in column.dictionary.to_pylist()]
                    same = codes == list(range(len(codes)))
                    kind = self.schema.field(place).type.index_type
                    before = known[place] = (column.dictionary, None if same else pa.array(codes, kind))
                found[place] = column.indices if before[1] is None else before[1].take(column.indices)
            return found

        return columns

    def batch(self, parts: Sequence[list[pa.Array]], order: np.ndarray[Any, Any] | None) -> pa.RecordBatch:
        """One batch of the rows of all parts, in this order; None: as they are."""
        import pyarrow.compute as pc

        places = None if order is None else pa.array(order)
        arrays = []
        for place in range(len(self.schema)):
            column = pa.concat_arrays([part[place] for part in parts]) if len(parts) > 1 else parts[0][place]
            if places is not None and not self._is_constant(place, column):
                column = pc.take(column, places, boundscheck=False)
            if place in self._names:
                column = pa.DictionaryArray.from_arrays(column, self._names[place].array())
            arrays.append(column)
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _is_constant(self, place: int, column: pa.Array) -> bool:
        """Whether all rows have the same, as is easily seen, so that their order does not matter."""
        if column.null_count:
            return bool(column.null_count == len(column))
        return place in self._names and len(self._names[place]) == 1
