"""From the phases a configuration declares to the phases that run: their windows, warm-ups, selections and graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import cache, partial
from math import ceil

from .compose import compose
from .config import Config, PhaseConfig, SelectConfig, WalkForward, WindowConfig
from .config.phase import AUTO, bars_of
from .config.phase_checks import END, check_length, check_window, instant
from .durations import parse_duration
from .errors import ConfigError, InputError, Problem
from .phases import ranker_of
from .sequencer import PhasePlan
from .topology import Topology, TopologyBuilder
from .windows import WarmUp, Window, iso

REPORT = "report"
"""The phase that joins what walking forward left."""
MAX_PAIRS = 1000
"""Test windows of one walk; more is an error."""
_SECOND = 1_000_000_000
Span = Callable[[], tuple[int, int]]
"""First and last event time of the data, ns UTC; raises `ConfigError`."""


def plan_phases(config: Config) -> list[PhasePlan]:
    """The phases of a configuration, in order; raises `ConfigError` with every problem.

    May read the data once, where phases are shares of it or walk over all of it.
    """
    base = compose(config)
    phases = expanded(config, cache(partial(data_span, config, base)))
    composed: dict[str, Topology] = {}
    problems: list[Problem] = []
    for phase in phases:
        applied = config.for_phase(phase.name)
        try:
            composed[phase.name] = base if applied is config else compose(applied)
        except ConfigError as error:
            problems += error.problems
    for number, phase in enumerate(phases):
        if phase.name in composed and window_of(phase).from_ns is not None:
            path = f"phases.{number}.warmup" if config.walk_forward is None else "walk_forward.warmup"
            problems += _check_warmup(config, path, composed[phase.name], phase.warmup)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    plans = [_planned(config, phase, composed[phase.name]) for phase in phases]
    if config.walk_forward is not None:
        plans += _report(phases, base, config.walk_forward.select.by)
    return plans


def expanded(config: Config, span: Span) -> tuple[PhaseConfig, ...]:
    """The phases with the windows that `split` gives them, or those that `walk_forward` makes."""
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


def window_of(phase: PhaseConfig) -> Window:
    """A phase's window in ns."""
    written = phase.window or WindowConfig()
    return Window(
        from_ns=None if written.since is None else instant(written.since),
        until_ns=None if written.until is None else instant(written.until),
    )


def data_span(config: Config, topology: Topology) -> tuple[int, int]:
    """First and last event time of all feeds, with `limit` and `until` applied. Raises `ConfigError`."""
    found: list[tuple[int, int]] = []
    setting = "walk_forward" if config.walk_forward is not None else "split"
    instead = "`from` and `until`" if config.walk_forward is not None else "the times at which its parts end"
    for node in topology.feeds:
        try:
            span = node.stage.span(config.limit)
            cadence = node.stage.cadence_ns({})
        except InputError as error:
            raise ConfigError([_problem(config, setting, f"expected data whose span is known: {error}", "")]) from error
        if span is None:
            hint = f"write {instead}"
            kind = type(node.stage).__name__
            said = f"expected data whose span is known, and nobody knows where '{node.name}' ({kind}) begins and ends"
            raise ConfigError([_problem(config, setting, said, hint)])
        # A row of steady pace covers what lies before its time, such as a bar its interval.
        found.append((span[0] - (cadence or 0), span[1]))
    first, last = min(begin for begin, _ in found), max(end for _, end in found)
    if config.until is not None:
        last = min(last, instant(config.until) - 1)
    if last <= first:
        raise ConfigError([_problem(config, setting, "expected data that spans some time, found none", "")])
    return first, last


def warmup_of(topology: Topology, setting: str) -> WarmUp:
    """What a phase's `warmup` comes to for the stages that run in it. Blocking where a feed looks into its data.

    In bars, of the longest bars in the graph; `auto` is the longest sum of what the stages on one path need. Raises
    `InputError` where bars must be counted and nobody knows how long they are.
    """
    bars = bars_of(setting)
    if bars is None and setting != AUTO:
        return WarmUp(duration_ns=parse_duration(setting))
    cadences: dict[str, int | None] = {}
    needed: dict[str, int] = {}
    every = 0
    for node in topology.nodes:
        sources = [entry.source for entry in node.inputs]
        cadence = cadences[node.name] = node.stage.cadence_ns({source: cadences[source] for source in sources})
        rows = max((member.warmup_rows() for member in node.members.values()), default=node.stage.warmup_rows())
        if rows and cadence is None and bars is None:
            raise InputError(
                f"'{node.name}' needs {rows:,} rows before the window, and nobody knows how long they last; "
                "write a duration, such as `warmup: 30d`"
            )
        needed[node.name] = rows * (cadence or 0) + max((needed[source] for source in sources), default=0)
        every = max(every, cadence or 0)
    if bars and not every:
        raise InputError("nobody knows how long a bar lasts; write a duration, such as `warmup: 30d`")
    longest = max(needed.values(), default=0)
    return WarmUp(count=bars if bars is not None else ceil(longest / every) if every else 0, every_ns=every)


def _planned(config: Config, phase: PhaseConfig, topology: Topology) -> PhasePlan:
    selects = phase.select
    needs = dict.fromkeys([*phase.needs, *([selects.source] if selects is not None else [])])
    return PhasePlan(
        phase.name,
        topology,
        tuple(needs),
        window=window_of(phase),
        warmup_of=partial(warmup_of, setting=phase.warmup),
        warmup=phase.warmup,
        select=selects,
        narrowed=None if selects is None else partial(_narrowed, config.for_phase(phase.name)),
    )


def _narrowed(config: Config, names: Sequence[str]) -> Topology:
    return compose(config, only=frozenset(names))


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
    begin = instant(walk.since) if walk.since is not None else span()[0] // 1000 * 1000
    end = instant(walk.until) if walk.until is not None else span()[1] // 1000 * 1000 + 1000
    return begin, end


def _report(phases: Sequence[PhaseConfig], base: Topology, by: str | None) -> list[PhasePlan]:
    """The phase that joins the tests, where what ranks knows how."""
    pairs = [(phase.select.source, phase.name) for phase in phases if phase.select is not None]
    ranker = ranker_of(base)
    chain = ranker.stage.joining(ranker.name, pairs, by) if ranker is not None else ()
    builder = TopologyBuilder()
    before: list[str] = []
    for name, stage in chain:
        builder.add(name, stage, before)
        before = [name]
    return [PhasePlan(REPORT, builder.build(), tuple(phase.name for phase in phases))] if chain else []


def _check_warmup(config: Config, path: str, topology: Topology, setting: str) -> list[Problem]:
    """What hinders a warm-up to be counted. Without a path there is no data yet that could tell."""
    try:
        for node in topology.feeds:
            node.stage.input_files()
    except InputError:
        return []
    try:
        warmup_of(topology, setting)
    except InputError as error:
        return [_problem(config, path, f"expected a warm-up that can be counted: {error}", "")]
    return []


def _problem(config: Config, path: str, expected: str, hint: str) -> Problem:
    file, line = config.locate(path)
    return Problem(path, expected, "", hint, file, line)
