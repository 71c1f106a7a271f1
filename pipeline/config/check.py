"""Checks a loaded configuration as a whole: what is named exists, and every setting converts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from pipeline.data.policy import DataFlow
from pipeline.errors import Problem

from .convert import Converter
from .leaf import suggestion
from .located import Located, Place
from .patterns import Group, covers, is_pattern
from .resolve import Config

MAX_MEMBERS_SEARCHED = 100_000
"""Members looked at to learn whether a pattern matches any."""


def check_config(config: Config) -> list[Problem]:
    """Every problem of the configuration as a whole."""
    problems = [*_phases(config)]
    for name in config.declared:
        problems += _container(config, name)
    problems += _inputs(config)
    for layer in config.layers:
        for entry in layer.entries:
            if entry.pattern in config.declared or any(covers(entry.pattern, name) for name in config.declared):
                continue
            member = next(_members(config, entry.pattern), None)
            if member is not None:
                problems += _container(config, member)
            else:
                problems.append(_matches_nothing(config, entry.pattern, entry.settings))
    return problems


def _container(config: Config, name: str) -> list[Problem]:
    _, problems = config.convert_stage(name)
    converter = Converter(config.registry, config.root, problems)
    converter.struct(config.data_flow_tree(config.entries_of(name)), DataFlow)
    config.convert_inputs(name, converter)
    return converter.problems


def _members(config: Config, pattern: str) -> Iterator[str]:
    """Members of declared groups whose name the pattern holds for."""
    for group in config.groups():
        if not is_pattern(pattern):
            if group.index(pattern) is not None:
                yield pattern
            continue
        for index in islice(range(group.count), MAX_MEMBERS_SEARCHED):
            if covers(pattern, member := group.member(index)):
                yield member


def _matches_nothing(config: Config, pattern: str, settings: Located) -> Problem:
    if not config.declared:
        hint = "give it a 'type' to declare it"
    elif group := next((group for group in config.groups() if covers(group.pattern, pattern)), None):
        hint = _range(group)
    else:
        hint = suggestion(pattern, list(config.declared)) or f"declared: {', '.join(config.declared)}"
    what = "no container matches" if is_pattern(pattern) else "no container is called"
    return settings.problem(f"{what} '{pattern}'", suggestion=hint)


def _range(group: Group) -> str:
    return f"members of {group.pattern} are {group.member(0)} to {group.member(group.count - 1)}"


def _inputs(config: Config) -> Iterator[Problem]:
    for name in config.declared:
        place = Place(f"containers.{name}.inputs", *config.locate(f"containers.{name}.inputs"))
        for wanted in config.inputs_of(name) if not _container(config, name) else ():
            source = wanted.source
            if source == name:
                yield Located(None, place).problem("a container cannot be its own input", found=f"'{source}'")
            elif not (config.container_of(source) or any(covers(source, declared) for declared in config.declared)):
                others = [declared for declared in config.declared if declared != name]
                hint = suggestion(source, others) or f"declared: {', '.join(others)}"
                yield Located(None, place).problem(f"no container matches '{source}'", suggestion=hint)


def _phases(config: Config) -> Iterator[Problem]:
    seen: list[str] = []
    place = Place("phases", *config.locate("phases"))
    for number, phase in enumerate(config.phases):
        here = Located(None, Place(f"phases.{number}", *config.locate(f"phases.{number}")))
        if phase.name in seen:
            yield here.problem("expected phases with different names", found=f"'{phase.name}' twice")
        for need in phase.needs:
            if need not in seen:
                hint = suggestion(need, seen) or "list a phase after those it needs"
                yield here.problem(f"no earlier phase is called '{need}'", suggestion=hint)
        seen.append(phase.name)
    if not config.phases:
        yield Located(None, place).problem("expected at least one phase", found="[]")
