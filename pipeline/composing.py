"""From a configuration to a topology: declared containers become nodes, wildcards with a parameter space groups."""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from .config import Config, InputConfig, recipe_name
from .edges.edge import LIVE, LOSSLESS, MIB, REPLAY, EdgePolicy
from .errors import ConfigError, Problem
from .stage import Recipe, Stage
from .topology import Input, Topology, TopologyBuilder, keeping_of

MAX_REFUSED_SHOWN = 5
MAX_VALUES_SHOWN = 12
MAX_COMPARED = 8
"""Parameters among which a constraint is looked for."""
COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "!=": operator.ne,
}  # fmt: skip


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
            builder.add(declared, stage, inputs, data_flow=flow, keep_output=keep, errors=config.errors_of(declared))
            continue
        everybody, wrong = _members(config, declared)
        problems += wrong
        members = {name: member for name, member in everybody.items() if only is None or name in only}
        if only is not None and not members:
            left_out.add(declared)
            continue
        if stage.groups:
            # A group is called the same in every phase, whoever is left of it.
            for group, team in _teams(config, declared, everybody).items():
                own = {name: member for name, member in team.items() if name in members}
                if own or not everybody:
                    builder.add(
                        group, next(iter(own.values())) if len(team) < len(everybody) else stage, inputs,
                        data_flow=config.data_flow_of(declared), keep_output="none",
                        members=own, member_flow=config.data_flow_of, pattern=declared,
                        errors=config.errors_of(declared),
                    )  # fmt: skip
        else:
            for name, member in members.items():
                flow = config.data_flow_of(name)
                keep = keeping_of(flow) if config.configures_mode(name) or flow.keep_output else "none"
                builder.add(
                    name, member, inputs, data_flow=flow, keep_output=keep, pattern=declared,
                    errors=config.errors_of(name),
                )  # fmt: skip
    if problems:
        raise ConfigError(problems)
    return builder.build()


def group_name(pattern: str) -> str:
    """What the group declared by a wildcard is called: `portfolio_*` is `portfolio`."""
    return pattern.replace("*", "").replace("?", "").strip("_-.") or pattern


def _teams(config: Config, declared: str, members: Mapping[str, Stage]) -> dict[str, dict[str, Stage]]:
    """Members by the name of their group: one group, or one for each class of recipe that they are grouped by."""
    by_class: dict[type[Recipe], tuple[str, dict[str, Stage]]] = {}
    for name, member in members.items():
        recipe = member.grouped_by or member
        if type(recipe) not in by_class:
            by_class[type(recipe)] = (recipe_name(recipe, config.registry), {})
        by_class[type(recipe)][1][name] = member
    if len(by_class) <= 1:
        return {group_name(declared): dict(members)}
    teams: dict[str, dict[str, Stage]] = {}
    for word, team in by_class.values():
        wanted = group = f"{group_name(declared)}_{_word(word)}"
        number = 1
        while group in teams or group in members:
            number += 1
            group = f"{wanted}_{number}"
        teams[group] = team
    return teams


def _word(name: str) -> str:
    """A recipe's name as a part of a container's: `my_module:MyStrategy` is `my_strategy`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.rpartition(":")[2]).lower()


def _members(config: Config, declared: str) -> tuple[dict[str, Stage], list[Problem]]:
    """One varied recipe per combination of the parameter space; the stage as it is where there is none."""
    space = config.parameter_space
    group = next(group for group in config.groups if group.pattern == declared)
    if wrong := too_many(config):
        return {}, [wrong]
    members: dict[str, Stage] = {}
    problems: list[Problem] = []
    first = 0
    for block in space.blocks:
        combinations: list[Mapping[str, Any]] = list(block)
        refused: list[tuple[str, Mapping[str, Any], ValueError]] = []
        for i, parameters in enumerate(combinations, first):
            name = group.member(i)
            try:
                own = config.stage_of(name, block)
                members[name] = own.vary(parameters) if parameters else own
            except ValueError as error:
                refused.append((name, parameters, error))
        first += len(combinations)
        hint = what_to_try(combinations, [parameters for _, parameters, _ in refused]) if refused else ""
        file, line = config.locate(block.path)
        problems += [
            Problem(block.path, f"{name} ({_listed(parameters)}): {error}", "", "" if place else hint, file, line)
            for place, (name, parameters, error) in enumerate(refused[:MAX_REFUSED_SHOWN])
        ]
    return members, problems


def too_many(config: Config) -> Problem | None:
    """The problem of a parameter space with more combinations than are allowed; they are counted, not made."""
    count = config.parameter_space.size
    if count <= config.max_portfolios:
        return None
    file, line = config.locate("parameter_space")
    return Problem(
        "parameter_space",
        f"expected at most {config.max_portfolios:,} combinations (`max_portfolios`)",
        f"{count:,}",
        "add `sample: {size: 1000}`, widen a step, exclude some with `where`, or raise `max_portfolios`",
        file,
        line,
    )


def what_to_try(combinations: Sequence[Mapping[str, Any]], refused: Sequence[Mapping[str, Any]]) -> str:
    """Which values of one parameter leave only combinations that are allowed, or which constraint; how many are not."""
    count = f"{len(refused):,} of {len(combinations):,} combinations are refused"
    keeping: list[tuple[float, str]] = []
    for name in combinations[0]:
        values = {str(each[name]): None for each in combinations}
        bad = {str(each[name]) for each in refused}
        kept = [value for value in values if value not in bad]
        if kept:
            keeping.append((len(kept) / len(values), f"{name}: [{', '.join(_shortened(kept))}]"))
    constraint = _constraint(combinations, refused)
    where = f"exclude them with `where: {constraint}`" if constraint else "exclude them with `where`"
    if not keeping:
        return f"{count}; leave out the values that take part in them, or {where}"
    return f"{count}; try `{max(keeping)[1]}`, which goes with all the others, or {where}"


def _constraint(combinations: Sequence[Mapping[str, Any]], refused: Sequence[Mapping[str, Any]]) -> str:
    """A comparison of two parameters that holds for exactly those combinations that were not refused, if one does."""
    bad = {id(each) for each in refused}
    names = [name for name in combinations[0] if all(_is_number(each[name]) for each in combinations)]
    for one, other in itertools.combinations(names[:MAX_COMPARED], 2):
        for sign, holds in COMPARISONS.items():
            if all(holds(each[one], each[other]) == (id(each) not in bad) for each in combinations):
                return f"{one} {sign} {other}"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shortened(values: Sequence[str]) -> Sequence[str]:
    return values if len(values) <= MAX_VALUES_SHOWN else [*values[: MAX_VALUES_SHOWN - 1], "...", values[-1]]


def _listed(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in parameters.items())


def _input(entry: InputConfig) -> Input:
    """An input with the policy its configuration declares; bounds left out are those of the run's clock."""
    if entry.when_full == "block" and entry.bound.rows is None and entry.bound.mb is None:
        return Input(entry.source, records=entry.kinds)
    base = REPLAY if entry.when_full in LOSSLESS else LIVE
    return Input(
        entry.source,
        EdgePolicy(
            max_rows=entry.bound.rows or base.max_rows,
            max_bytes=int(entry.bound.mb * MIB) if entry.bound.mb is not None else base.max_bytes,
            when_full=entry.when_full,
            key=entry.key,
        ),
        entry.kinds,
    )


def _is_pattern(name: str) -> bool:
    return "*" in name or "?" in name
