"""Names of the instruments in a DBN file: its header says which symbol a number stood for on which day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa

DAY_NS = 86_400 * 10**9


class Symbols:
    """`SYMBOL.VENUE`, the venue being that of the data set (GLBX of GLBX.MDP3); a number without a symbol stays one."""

    def __init__(self, metadata: Any) -> None:
        self._venue = str(metadata.dataset).partition(".")[0]
        self._spans: dict[int, list[tuple[date, date, str]]] = {}
        self._learned: dict[int, str] = {}
        for symbol, spans in sorted(metadata.mappings.items()):
            for span in spans:
                if str(span["symbol"]).isdigit():
                    entry = (span["start_date"], span["end_date"], symbol)
                    self._spans.setdefault(int(span["symbol"]), []).append(entry)

    def learn(self, records: Sequence[Any]) -> None:
        """Take up what live streams say between records."""
        for record in records:
            self._learned[record.instrument_id] = record.stype_in_symbol

    def named(self, symbol: str) -> str:
        return f"{symbol}.{self._venue}".upper()

    def names(self, numbers: Any, moments: Any) -> pa.DictionaryArray:
        """Names of instruments by their numbers at given times (ns)."""
        days = moments.astype(np.int64) // DAY_NS
        pairs, codes = np.unique(np.stack([numbers.astype(np.int64), days]), axis=1, return_inverse=True)
        words = [self._name(int(number), int(day)) for number, day in pairs.T]
        return pa.DictionaryArray.from_arrays(pa.array(codes.ravel().astype(np.int32)), pa.array(words, pa.utf8()))

    def _name(self, number: int, day: int) -> str:
        if number in self._learned:
            return self.named(self._learned[number])
        on = datetime.fromtimestamp(day * 86_400, UTC).date()
        spans = self._spans.get(number, [])
        found = next((symbol for start, end, symbol in spans if start <= on < end), None)
        if found is None and len({symbol for *_, symbol in spans}) == 1:
            found = spans[0][2]  # sessions begin the evening before their day
        return self.named(found or str(number))
