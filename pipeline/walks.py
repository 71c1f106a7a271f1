"""Splits and walks as phases with windows, by the span of the data where nobody wrote when it begins and ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cache, partial

from .config import Config, PhaseConfig, SelectConfig, WalkForward, WindowConfig
from .config.phase_checks import END, check_length, check_window
from .durations import parse_duration, parse_instant
from .errors import ConfigError, InputError, Problem
from .windows import iso

MAX_PAIRS = 1000
"""Test windows of one walk; more is an error."""
_SECOND = 1_000_000_000
Span = Callable[[], tuple[int, int]]
"""First and last event time of the data, ns UTC; raises `ConfigError`."""


def expanded(config: Config, span: Span | None = None) -> tuple[PhaseConfig, ...]:
    """The phases with the windows that `split` gives them, or those that `walk_forward` makes.

    `span` (None: `data_span`) is asked only where it is needed, and once. Raises `ConfigError`.
    """
    span = cache(span or partial(data_span, config))
    if config.walk_forward is not None:
        return _walked(config, config.walk_forward, span)
    if not config.split:
        return config.phases
    ends = _ends(config.split, span)
    windows: dict[str, WindowConfig] = {}
    begin: str | None = None
    for name, end in ends.items():
        windows[name] = WindowConfig(since=begin, until=end)
        begin = end
    problems = [found for name, window in windows.items() for found in check_window(config, f"split.{name}", window)]
    if problems:
        raise ConfigError(problems)
    return tuple(
        _with_window(phase, windows[phase.name]) if phase.name in windows else phase for phase in config.phases
    )


def data_span(config: Config) -> tuple[int, int]:
    """First and last event time of all feeds, with `limit` and `until` applied. Raises `ConfigError`."""
    found: list[tuple[int, int]] = []
    setting = "walk_forward" if config.walk_forward is not None else "split"
    instead = "`from` and `until`" if config.walk_forward is not None else "the times at which its parts end"
    for name in config.declared:
        stage = config.stage_of(name)
        if stage.is_feed is False or config.inputs_of(name):
            continue
        try:
            span = stage.span(config.limit)
            cadence = stage.cadence_ns({})
        except InputError as error:
            raise ConfigError([_problem(config, setting, f"expected data whose span is known: {error}", "")]) from error
        if span is None:
            hint = f"write {instead}"
            kind = type(stage).__name__
            said = f"expected data whose span is known, and nobody knows where '{name}' ({kind}) begins and ends"
            raise ConfigError([_problem(config, setting, said, hint)])
        # A row of steady pace covers what lies before its time, such as a bar its interval.
        found.append((span[0] - (cadence or 0), span[1]))
    first, last = min(begin for begin, _ in found), max(end for _, end in found)
    if config.until is not None:
        last = min(last, parse_instant(config.until) - 1)
    if last <= first:
        raise ConfigError([_problem(config, setting, "expected data that spans some time, found none", "")])
    return first, last


def _with_window(phase: PhaseConfig, window: WindowConfig) -> PhaseConfig:
    return PhaseConfig(
        name=phase.name, needs=phase.needs, window=window, select=phase.select, warmup=phase.warmup,
        containers=phase.containers,
    )  # fmt: skip


def _ends(split: Mapping[str, float | str], span: Span) -> dict[str, str | None]:
    """Where each part of a split ends, None for the last; shares of a long span are cut at whole seconds."""
    if any(isinstance(end, str) for end in split.values()):
        return {name: None if end == END else str(end) for name, end in split.items()}
    first, last = span()
    unit = _SECOND if last - first > 1000 * _SECOND else 1000
    ends: dict[str, str | None] = {}
    share = Decimal(0)
    for name, part in split.items():
        share += Decimal(repr(part))
        ends[name] = iso((first + int(share * (last + 1 - first))) // unit * unit)
    return ends | {list(split)[-1]: None}


def _walked(config: Config, walk: WalkForward, span: Span) -> tuple[PhaseConfig, ...]:
    """`train_000`, `test_000`, `train_001` and so on."""
    begin, end = _stretch(walk, span)
    problems = [*check_length(config, walk, end - begin)]
    if problems:
        raise ConfigError(problems)
    train, test, embargo = (parse_duration(text) for text in (walk.train, walk.test, walk.embargo))
    step = parse_duration(walk.step or walk.test)
    phases: list[PhaseConfig] = []
    pairs = (end - begin - train - embargo - (test + 1) // 2) // step + 1
    if pairs > MAX_PAIRS:
        said = f"expected at most {MAX_PAIRS:,} test windows, found {pairs:,}"
        raise ConfigError([_problem(config, "walk_forward", said, "lengthen `step`")])
    for number in range(pairs):
        moved = begin + number * step
        trained = moved + train
        tested = trained + embargo
        over = tested + test if walk.until is None else min(tested + test, end)
        trains, tests = f"train_{number:03d}", f"test_{number:03d}"
        phases.append(
            PhaseConfig(
                name=trains,
                window=WindowConfig(since=iso(begin if walk.mode == "anchored" else moved), until=iso(trained)),
                warmup=walk.warmup,
            )
        )
        phases.append(
            PhaseConfig(
                name=tests,
                window=WindowConfig(since=iso(tested), until=iso(over)),
                select=SelectConfig(source=trains, top=walk.select.top, by=walk.select.by),
                warmup=walk.warmup,
            )
        )
    return tuple(phases)


def _stretch(walk: WalkForward, span: Span) -> tuple[int, int]:
    """Where the walk begins and ends; of the data's own ends, whole microseconds, which is what a time can say."""
    begin = parse_instant(walk.since) if walk.since is not None else span()[0] // 1000 * 1000
    end = parse_instant(walk.until) if walk.until is not None else span()[1] // 1000 * 1000 + 1000
    return begin, end


def _problem(config: Config, path: str, expected: str, hint: str) -> Problem:
    file, line = config.locate(path)
    return Problem(path, expected, "", hint, file, line)
