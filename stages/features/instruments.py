"""Instruments by number: in order of first appearance, whatever dictionaries the batches bring."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.schemas import INSTRUMENT

COLUMN = "instrument_id"
NO_NAME = ""
"""The one instrument of a stream without an `instrument_id`."""


class Instruments:
    """Numbers instruments 0, 1, ... by first row, and translates each batch's dictionary codes to them.

    `known[code]` is the instrument of the present dictionary's `code`, -1 where none of its rows has been
    seen; kernels number it then and `learn` takes down the name. While batches bring the same dictionary,
    nothing is translated.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.known = np.zeros(0, np.int64)
        self._numbers: dict[str, int] = {}
        self._dictionary: list[str] = []
        self._source: pa.Array | None = None
        self._arrow: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def most(self) -> int:
        """How many there may be once the present dictionary's codes have all been seen."""
        return len(self.names) + len(self.known)

    def codes(self, columns: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.int32]]:
        """The codes of a batch, int32 into `known`."""
        index = columns.schema.get_field_index(COLUMN)
        if index < 0:
            self._use(None)
            return np.zeros(columns.num_rows, np.int32)
        column = columns.column(index)
        if not pa.types.is_dictionary(column.type) or column.null_count:
            column = _encoded(column)
        if not self._is_used(column.dictionary):
            names = column.dictionary.to_pylist()
            if len(set(names)) < len(names) or None in names:
                column = _encoded(column)
            self._use(column.dictionary)
        indices = column.indices
        if indices.type != pa.int32():
            indices = indices.cast(pa.int32())
        codes: np.ndarray[Any, np.dtype[np.int32]] = indices.to_numpy()
        return codes

    def number(self, codes: np.ndarray[Any, np.dtype[np.int32]]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The instrument of each row, new ones numbered on the way."""
        numbers: np.ndarray[Any, np.dtype[np.int64]] = self.known[codes]
        if (numbers < 0).any():
            fresh, first = np.unique(codes[numbers < 0], return_index=True)
            for code in fresh[np.argsort(first)]:
                self.known[code] = len(self.names)
                self._name(int(code))
            numbers = self.known[codes]
        return numbers

    def find(self, name: str) -> int:
        """The number of an instrument, -1 where it has not appeared."""
        return self._numbers.get(name, -1)

    def learn(self, count: int) -> None:
        """Take down the names of instruments a kernel has numbered up to `count`."""
        for number in range(len(self.names), count):
            self._name(int(np.flatnonzero(self.known == number)[0]))

    def array(self, numbers: np.ndarray[Any, np.dtype[np.int32]]) -> pa.DictionaryArray:
        """An `instrument_id` column of these instruments."""
        if self._arrow is None or len(self._arrow) < len(self.names):
            self._arrow = pa.array(self.names, pa.utf8())
        # Without the check of every code against the dictionary that `from_arrays` makes: they are numbered here.
        return pa.DictionaryArray.from_buffers(INSTRUMENT, len(numbers), [None, pa.py_buffer(numbers)], self._arrow, 0)

    def restore(self, names: list[str]) -> None:
        """Continue after these."""
        self.names = []
        self._numbers = {}
        for name in names:
            self._numbers[name] = len(self.names)
            self.names.append(name)
        self._source = None
        self.known = np.zeros(0, np.int64)

    def _is_used(self, dictionary: pa.Array) -> bool:
        used = self._source
        return used is not None and (_is_same_memory(used, dictionary) or bool(used.equals(dictionary)))

    def _use(self, dictionary: pa.Array | None) -> None:
        if dictionary is None:
            if len(self.known) and self._source is None:
                return
            self._source, self._dictionary = None, [NO_NAME]
        else:
            self._source = dictionary
            self._dictionary = dictionary.to_pylist()
        self.known = np.array([self._numbers.get(name, -1) for name in self._dictionary], np.int64)

    def _name(self, code: int) -> None:
        name = self._dictionary[code]
        self._numbers[name] = len(self.names)
        self.names.append(name)


def _encoded(column: pa.Array) -> pa.DictionaryArray:
    """The column with a dictionary in which each name occurs once, nulls under `NO_NAME`."""
    return pc.fill_null(pc.cast(column, pa.utf8()), NO_NAME).dictionary_encode()


def _is_same_memory(one: pa.Array, other: pa.Array) -> bool:
    """Whether two arrays are views of the same buffers, so that comparing values is needless."""
    if len(one) != len(other) or one.offset != other.offset or one.type != other.type:
        return False
    return all(
        (a is None) == (b is None) and (a is None or b is None or a.address == b.address)
        for a, b in zip(one.buffers(), other.buffers(), strict=True)
    )
