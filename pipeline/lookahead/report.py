"""What a search for look-ahead has found, as data and as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np

Verdict: TypeAlias = Literal["ok", "looks ahead", "depends on batches", "not repeatable", "follows", "not compared"]
FINDINGS = ("looks ahead", "depends on batches", "not repeatable")

_LOOK_FOR = {
    "looks ahead": (
        "a call that sees a whole batch (on_bars, on_batch) and uses later rows of it: shift(-1), a centred window, "
        "argmax, or a mean, minimum or maximum over the batch; rows held back until later ones have come; or rows "
        "stamped earlier than what they are made of"
    ),
    "depends on batches": (
        "state that begins anew with each batch: a rolling window, a shift or a diff computed within on_bars or "
        "on_batch; carry it over in the object, or ask for a feature"
    ),
    "not repeatable": (
        "randomness without a seed, the time of day, the order of a set, or state kept outside of what build() makes"
    ),
}


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """The first row that moved, and what moved it."""

    key: str
    """`output` for what was sent, else the key it was kept under."""
    member: str
    """The member of a group, empty for the container itself."""
    recipe: str
    """What a member was told to run, such as `strategy SmaCross(fast=5, slow=20)`."""
    ts: int | None
    """Event time of the row, ns UTC; None where it carries none."""
    column: str
    """Empty where a whole row came or went."""
    before: Any
    after: Any
    change: str
    """What was done, such as `the rows after 2024-01-02 10:00:00 were cut off`."""


class ContainerVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one container."""

    name: str
    kind: str
    verdict: Verdict
    rows: int
    """Rows compared, over all cuts and members."""
    moved: Moved | None = None
    members: int = 0
    """Members of a group in which something moved."""
    of_members: int = 0
    causes: tuple[str, ...] = ()
    """For `follows`: the containers it reads from in which the same was found."""


class LookaheadReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a search for look-ahead has found; `str(report)` tells it."""

    containers: Sequence[ContainerVerdict]
    """In the order of the graph: what stands upstream first."""
    rows: int
    cuts: Sequence[int]
    """Event times the data was cut at, ns UTC."""
    runs: int
    notes: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found, and something was compared."""
        return not self.findings and any(container.rows for container in self.containers)

    @property
    def findings(self) -> Sequence[ContainerVerdict]:
        """What has to be corrected, most upstream first; containers that only follow are not among them."""
        return [container for container in self.containers if container.verdict in FINDINGS]

    def __getitem__(self, name: str) -> ContainerVerdict:
        """What was found of the container called `name`; KeyError."""
        for container in self.containers:
            if container.name == name:
                return container
        raise KeyError(f"'{name}' was not looked at; there are {', '.join(each.name for each in self.containers)}")

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        verdict = "ok" if self.ok else "found" if self.findings else "nothing could be compared"
        yield f"look-ahead: {verdict}; {self.rows:,} rows, cut at {len(self.cuts)} moments, {self.runs} runs"
        width = max(len(container.name) for container in self.containers)
        for container in self.containers:
            yield f"  {container.name:<{width}}  {_told(container)}"
        for container in self.findings:
            yield ""
            yield from _finding(container)
        for note in self.notes:
            yield f"note: {note}"


def _told(container: ContainerVerdict) -> str:
    if container.kind == "feed":
        return "feed: what the others are given"
    if container.verdict == "follows":
        return f"moved too, as it reads from {', '.join(container.causes)}"
    if container.verdict == "not compared":
        return "not compared: nothing it sends or keeps before its end carries a time"
    if container.verdict == "ok":
        return f"ok, {container.rows:,} rows compared"
    return container.verdict


def _finding(container: ContainerVerdict) -> Iterator[str]:
    moved = container.moved
    assert moved is not None
    whose = f", {moved.member} ({moved.recipe})" if moved.member and moved.recipe else ""
    whose = whose or (f", {moved.member}" if moved.member else "")
    many = f"; {container.members:,} of {container.of_members:,} members moved" if container.members else ""
    yield f"{container.name} {container.verdict}{whose}{many}"
    stamp = "a value without a time" if moved.ts is None else f"the row of {time_said(moved.ts)}"
    column = f", column {moved.column}" if moved.column else ""
    yield f"  first moved: {moved.key}, {stamp}{column}: {_said(moved.before)} became {_said(moved.after)}"
    yield f"  when {moved.change}"
    yield f"  look for: {_LOOK_FOR[container.verdict]}"


def _said(value: Any) -> str:
    return value if isinstance(value, str) and value != "" else "null" if value is None else str(value)


def time_said(ns: int) -> str:
    """Nanoseconds since 1970 as `2024-05-01 12:34:56`, with a fraction where there is one."""
    text = str(np.datetime_as_string(np.datetime64(ns, "ns"))).replace("T", " ")
    return text.rstrip("0").rstrip(".") if "." in text else text
