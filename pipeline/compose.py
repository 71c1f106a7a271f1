"""From a configuration to a topology: declared containers become nodes, wildcards with a parameter space groups."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from .config import Config, InputConfig
from .edge import LIVE, MIB, REPLAY, EdgePolicy
from .errors import ConfigError, Problem
from .stage import Stage
from .topology import Input, Topology, TopologyBuilder, keeping_of

MAX_MEMBERS = 100_000
"""Members one parameter space may have."""
MAX_REFUSED_SHOWN = 5
MAX_VALUES_SHOWN = 12


def compose(config: Config, *, only: Container[str] | None = None) -> Topology:
    """The topology a configuration describes; raises `ConfigError` with every problem.

    With `only`, groups have those of their members alone; a group without any is left out. What a phase sets for
    itself is in `config.for_phase(name)`.
    """
    builder = TopologyBuilder(config.locate)
    problems: list[Problem] = []
    left_out: set[str] = set()
    for declared in config.declared:
        stage = config.stage_of(declared)
        inputs = [_input(entry) for entry in config.inputs_of(declared) if entry.source not in left_out]
        if not _is_pattern(declared):
            flow = config.data_flow_of(declared)
            keep = keeping_of(flow) if config.configures_mode(declared) or flow.keep_output else "none"
            builder.add(declared, stage, inputs, data_flow=flow, keep_output=keep)
            continue
        members, wrong = _members(config, declared)
        problems += wrong
        if only is not None:
            members = {name: member for name, member in members.items() if name in only}
            if not members:
                left_out.add(declared)
                continue
        if stage.groups:
            builder.add(
                group_name(declared), stage, inputs, data_flow=config.data_flow_of(declared), keep_output="none",
                members=members, member_flow=config.data_flow_of, pattern=declared,
            )  # fmt: skip
        else:
            for name, member in members.items():
                flow = config.data_flow_of(name)
                keep = keeping_of(flow) if config.configures_mode(name) or flow.keep_output else "none"
                builder.add(name, member, inputs, data_flow=flow, keep_output=keep, pattern=declared)
    if problems:
        raise ConfigError(problems)
    return builder.build()


def group_name(pattern: str) -> str:
    """What the group declared by a wildcard is called: `portfolio_*` is `portfolio`."""
    return pattern.replace("*", "").replace("?", "").strip("_-.") or pattern


def _members(config: Config, declared: str) -> tuple[dict[str, Stage], list[Problem]]:
    """One varied recipe per combination of the parameter space; the stage as it is where there is none."""
    space = config.parameter_space
    group = next(group for group in config.groups if group.pattern == declared)
    count = group.count
    file, line = config.locate("parameter_space")
    if count > MAX_MEMBERS:
        return {}, [
            Problem("parameter_space", f"expected at most {MAX_MEMBERS:,} combinations", f"{count:,}",
                    "shorten a list or widen a step", file, line)
        ]  # fmt: skip
    combinations: list[Mapping[str, Any]] = list(space) if space else [{}]
    members: dict[str, Stage] = {}
    refused: list[tuple[str, Mapping[str, Any], ValueError]] = []
    for i, parameters in enumerate(combinations):
        name = group.member(i)
        try:
            own = config.stage_of(name)
            members[name] = own.vary(parameters) if parameters else own
        except ValueError as error:
            refused.append((name, parameters, error))
    hint = _what_to_try(combinations, [parameters for _, parameters, _ in refused]) if refused else ""
    wrong = [
        Problem("parameter_space", f"{name} ({_listed(parameters)}): {error}", "", "" if place else hint, file, line)
        for place, (name, parameters, error) in enumerate(refused[:MAX_REFUSED_SHOWN])
    ]
    return members, wrong


def _what_to_try(combinations: Sequence[Mapping[str, Any]], refused: Sequence[Mapping[str, Any]]) -> str:
    """Which values of one parameter leave only combinations that are allowed, and how many are not."""
    count = f"{len(refused):,} of {len(combinations):,} combinations are refused"
    keeping: list[tuple[float, str]] = []
    for name in combinations[0]:
        values = {str(each[name]): None for each in combinations}
        bad = {str(each[name]) for each in refused}
        kept = [value for value in values if value not in bad]
        if kept:
            keeping.append((len(kept) / len(values), f"{name}: [{', '.join(_shortened(kept))}]"))
    if not keeping:
        return f"{count}; leave out the values that take part in them"
    return f"{count}; try `{max(keeping)[1]}`, which goes with all the others"


def _shortened(values: Sequence[str]) -> Sequence[str]:
    return values if len(values) <= MAX_VALUES_SHOWN else [*values[: MAX_VALUES_SHOWN - 1], "...", values[-1]]


def _listed(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in parameters.items())


def _input(entry: InputConfig) -> Input:
    """An input with the policy its configuration declares; bounds left out are those of the run's clock."""
    if entry.when_full == "block" and entry.bound.rows is None and entry.bound.mb is None:
        return Input(entry.source)
    base = REPLAY if entry.when_full == "block" else LIVE
    return Input(
        entry.source,
        EdgePolicy(
            max_rows=entry.bound.rows or base.max_rows,
            max_bytes=int(entry.bound.mb * MIB) if entry.bound.mb is not None else base.max_bytes,
            when_full=entry.when_full,
            key=entry.key,
        ),
    )


def _is_pattern(name: str) -> bool:
    return "*" in name or "?" in name
