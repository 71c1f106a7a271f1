"""The rule every pair of averages keeps."""

from __future__ import annotations

from typing import Protocol


class _Pair(Protocol):
    @property
    def fast(self) -> int: ...
    @property
    def slow(self) -> int: ...


def check_periods(pair: _Pair) -> None:
    """Raises `ValueError` unless 1 <= fast < slow."""
    if pair.fast < 1:
        raise ValueError(f"expected fast of 1 or more, found {pair.fast}")
    if pair.fast >= pair.slow:
        raise ValueError(f"expected fast below slow, found fast={pair.fast} and slow={pair.slow}")
