"""Phases as they are written: windows, splits, walking forward, selection and what a phase sets for itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from pipeline.data.policy import Settings
from pipeline.durations import Duration, DurationOrZero, parse_duration, parse_instant

Name = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$",
        extra={"expected": "a name of letters, digits, '_', '-' and '.', at most 100, fit to be a folder"},
    ),
]
"""What becomes a folder of the results."""


def _iso_time(text: str) -> None:
    parse_instant(text)


IsoTime = Annotated[
    str,
    msgspec.Meta(extra={"expected": "a time such as '2024-05-01T12:00:00Z'", "check": _iso_time}),
]
AUTO = "auto"
_BARS = re.compile(r"([0-9]{1,9})\s*bars?", re.ASCII)


def bars_of(warmup: str) -> int | None:
    """The number in `500 bars`; None for a warm-up that is written otherwise."""
    match = _BARS.fullmatch(warmup.strip())
    return None if match is None else int(match[1])


def _warmup(text: str) -> None:
    if text != AUTO and bars_of(text) is None:
        parse_duration(text)


def _how_to_warm_up(found: object) -> str:
    """A bare number most often means bars."""
    return f"write '{found} bars'?" if isinstance(found, int) else "or '500 bars', '30d', '0s' for none"


Warmup = Annotated[
    str,
    msgspec.Meta(
        extra={
            "expected": "a warm-up such as 'auto', '500 bars' or '30d'",
            "check": _warmup,
            "suggest": _how_to_warm_up,
        },
        examples=["auto", "500 bars", "30d"],
    ),
]
"""`auto`: what the features in use need; so many bars before the window; or that much time before it."""


class WindowConfig(Settings, frozen=True, rename={"since": "from"}):
    """`[from, until)` in event time; either may be missing. Without a zone, times are UTC."""

    since: IsoTime | None = None
    """`from:` the first moment of the window."""
    until: IsoTime | None = None
    """The first moment after it."""


class SelectConfig(Settings, frozen=True, rename={"source": "from"}):
    """`{from: train, top: 20, by: sharpe}`: members that an earlier phase ranked best, under the same names."""

    source: Name
    """`from:` an earlier phase; its published ranking is what counts."""
    top: Annotated[int, msgspec.Meta(gt=0)] = 1
    by: str | None = None
    """The objective; None: the one that phase was ranked by."""


class PhaseConfig(Settings, frozen=True):
    """One entry of `phases:`."""

    name: Name
    needs: tuple[str, ...] = ()
    """Earlier phases whose results this one uses."""
    window: WindowConfig | None = None
    """The stretch of event time it is about; None: all of it."""
    select: SelectConfig | None = None
    """Whom of the members it runs; None: all of them."""
    warmup: Warmup = AUTO
    """Data before the window, so that what looks back has formed when it begins; nothing of it is counted."""
    containers: Mapping[str, Any] = {}
    """Settings of containers in this phase only, over those of the file; `--set` is over them."""


class WalkSelect(Settings, frozen=True):
    """What is selected after each train window for the test window that follows it."""

    top: Annotated[int, msgspec.Meta(gt=0)] = 1
    by: str | None = None
    """The objective; None: that of the ranking."""


class WalkForward(Settings, frozen=True, rename={"since": "from"}):
    """`walk_forward:` pairs of phases, `train_000` and `test_000` and so on, and a `report` that joins the tests.

    Test windows follow each other every `step`; all are whole but the last, which is left out where less than half of
    it has data.
    """

    train: Duration
    """Length of the train window; `anchored`: of the first one."""
    test: Duration
    step: Duration | None = None
    """From one test window to the next, at least `test`; None: `test`."""
    mode: Literal["rolling", "anchored"] = "rolling"
    """Train windows that move along, or that all begin where the first one does."""
    embargo: DurationOrZero = "0s"
    """Left out between a train window and its test window."""
    select: WalkSelect = WalkSelect()
    warmup: Warmup = AUTO
    since: IsoTime | None = None
    """`from:` where the first train window begins; None: where the data does."""
    until: IsoTime | None = None
    """Where the last test window ends at the latest; None: where the data does."""
