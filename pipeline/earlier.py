"""What an earlier phase of the same run has left, for the phases that build on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from .results import PhaseResults
from .summary import PhaseSummary


class EarlierPhase(Mapping[str, Mapping[str, Any]]):
    """Container or member -> key -> value: what the phase persisted, and what its containers still held at its end.

    Reading what was persisted blocks.
    """

    def __init__(self, folder: Path, summary: PhaseSummary, leftovers: Mapping[tuple[str, Any], Any]) -> None:
        self.summary = summary
        self._results = PhaseResults(folder, summary)
        self._leftovers = leftovers

    def __getitem__(self, container: str) -> Mapping[str, Any]:
        held = {key: _table(value) for (name, key), value in self._leftovers.items() if name == container}
        try:
            return {**self._results[container], **held} if held else self._results[container]
        except KeyError:
            if held:
                return held
            raise

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results.keys())


def _table(value: Any) -> Any:
    return pa.Table.from_batches([value]) if isinstance(value, pa.RecordBatch) else value
