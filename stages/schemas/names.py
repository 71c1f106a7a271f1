"""The run-wide dictionary of names, so that a name has one code wherever it occurs."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa


class Names:
    """Names and their codes, 0, 1, 2 ... in order of first appearance; a code never changes."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names: list[str] = []
        self._codes: dict[str, int] = {}
        self._array = pa.array([], pa.utf8())
        for name in names:
            self.code(name)

    def __len__(self) -> int:
        return len(self.names)

    def code(self, name: str) -> int:
        """The code of a name, a new one where it was never seen."""
        code = self._codes.get(name)
        if code is None:
            code = self._codes[name] = len(self.names)
            self.names.append(name)
        return code

    def array(self) -> pa.StringArray:
        """All names so far, as the values of a dictionary array."""
        if len(self._array) != len(self.names):
            self._array = pa.array(self.names, pa.utf8())
        return self._array
