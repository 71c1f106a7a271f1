"""From the phases a configuration declares to the phases that run: their warm-ups, selections and graphs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import ceil

from .composing import compose
from .config import Config, PhaseConfig, WindowConfig
from .config.phase import AUTO, bars_of
from .durations import parse_duration, parse_instant
from .edges.edge import LOSSLESS
from .errors import ConfigError, InputError, Problem
from .plans import PhasePlan
from .topology import Topology, TopologyBuilder, ranker_of
from .walks import expanded
from .windows import WarmUp, Window

REPORT = "report"
"""The phase that joins what walking forward left."""


def plan_phases(config: Config) -> list[PhasePlan]:
    """The phases of a configuration, in order; raises `ConfigError` with every problem.

    May read the data once, where phases are shares of it or walk over all of it.
    """
    base = compose(config)
    phases = expanded(config)
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
    if config.checkpoint.every_seconds is not None:
        for topology in composed.values():
            problems += _check_losses(config, topology)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    plans = [_planned(config, phase, composed[phase.name]) for phase in phases]
    if config.walk_forward is not None:
        plans += _report(phases, base, config.walk_forward.select.by)
    return plans


def window_of(phase: PhaseConfig) -> Window:
    """A phase's window in ns."""
    written = phase.window or WindowConfig()
    return Window(
        from_ns=None if written.since is None else parse_instant(written.since),
        until_ns=None if written.until is None else parse_instant(written.until),
    )


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


def _check_losses(config: Config, topology: Topology) -> list[Problem]:
    """What an edge loses on purpose would be another loss when a run goes on from its checkpoint."""
    problems = []
    for node, entry, policy in topology.lossy_inputs():
        if policy.when_full not in LOSSLESS:
            path = f"containers.{node.pattern or node.name}.inputs"
            file, line = config.locate(path)
            problems.append(
                Problem(
                    path, "expected an input that loses nothing in a run with checkpoints, 'block' or 'spill'",
                    f"'when_full: {policy.when_full}' from '{entry.source}', with a live feed upstream",
                    "'spill' lets the feed go on through the disk; or leave out 'checkpoint'", file, line,
                )
            )  # fmt: skip
    return problems


def lossless_notes(topology: Topology) -> list[str]:
    """Lossy inputs that lose nothing in such a run, a line for each."""
    return [
        f"containers.{node.pattern or node.name}.inputs: 'when_full: {entry.policy.when_full}' from '{entry.source}' "
        "acts as 'block': no live feed is upstream of it, and a replay loses nothing"
        for node, entry, policy in topology.lossy_inputs()
        if entry.policy is not None and policy.when_full in LOSSLESS
    ]


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
