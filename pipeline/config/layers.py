"""Layers of container settings, and how a later one is laid over an earlier one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .located import Located
from .patterns import covers, is_pattern, specificity
from .schema import CONTAINER_KEYS


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """What one layer says about the containers called `pattern`."""

    pattern: str
    settings: Located
    guessed: bool = False
    """A topology's guess, which whatever a person wrote beats."""

    @property
    def type(self) -> Located | None:
        named = self.settings.get("type")
        return named if named is not None and named.value is not None else None


class Layer:
    """The entries of one source, in file order."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries = tuple(entries)
        self._exact: dict[str, list[Entry]] = {}
        for entry in self.entries:
            self._exact.setdefault(entry.pattern, []).append(entry)
        # `sorted` is stable, so equally literal patterns keep the order of the file.
        wildcards = [entry for entry in self.entries if is_pattern(entry.pattern)]
        self._wildcards = sorted(wildcards, key=lambda entry: specificity(entry.pattern))

    def matching(self, name: str) -> Iterator[Entry]:
        """Entries for a container, a member or a declared pattern, weakest first: wildcards, then the exact name."""
        for entry in self._wildcards:
            if covers(entry.pattern, name):
                yield entry
        if not is_pattern(name):
            yield from self._exact.get(name, ())


def merge(under: Located | None, over: Located) -> Located:
    """`over` laid on `under`, key by key. A mapping of another `type` replaces, since its keys mean other things."""
    if under is None or not isinstance(over.value, dict):
        return over
    base = under
    if isinstance(under.value, str) and "type" not in over.value and over.value:
        # `strategy: sma_cross` is short for `strategy: {type: sma_cross}`.
        base = Located({"type": under}, under.place)
    if not isinstance(base.value, dict) or _differ(base.get("type"), over.get("type")):
        return over
    merged = dict(base.value)
    for key, item in over:
        merged[key] = merge(merged.get(key), item)
    return Located(merged, over.place)


def _differ(one: Located | None, other: Located | None) -> bool:
    return one is not None and other is not None and one.value != other.value


def final_type(entries: Iterable[Entry]) -> Located | None:
    """The type the strongest entry names."""
    named = None
    for entry in entries:
        named = entry.type or named
    return named


def stage_fields(entries: Iterable[Entry]) -> Located | None:
    """The stage's fields merged, without those written for a type that a stronger entry replaced."""
    entries = tuple(entries)
    chosen = final_type(entries)
    merged: Located | None = None
    for entry in entries:
        if not _differ(entry.type, chosen):
            own = {key: item for key, item in entry.settings if key not in CONTAINER_KEYS}
            merged = merge(merged, Located(own, entry.settings.place))
    return merged


def section(entries: Iterable[Entry], key: str, under: Located | None = None) -> Located | None:
    """What the entries say beneath `key`, merged over `under`."""
    for entry in entries:
        own = entry.settings.get(key)
        if own is not None and own.value is not None:
            under = merge(under, own)
    return under
