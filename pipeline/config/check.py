"""Checks a loaded configuration as a whole: what is named exists, and every setting converts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec
from msgspec import inspect as types

from pipeline.data.policy import DataFlow
from pipeline.errors import Problem
from pipeline.mending.tolerance import ErrorPolicy
from pipeline.stage import Stage

from .canonical import canonical
from .convert import Converter, fields_of
from .layers import Entry, Layer
from .leaf import suggestion
from .located import Located, Place, lift
from .patterns import Group, covers, is_pattern
from .phase_checks import check_phases
from .resolve import Config
from .schema import InputConfig
from .space import Block, Distribution

MAX_MEMBERS_SEARCHED = 100_000
"""Members looked at to learn whether a pattern matches any."""
MAX_VALUES_CHECKED = 1000
"""Values of one parameter that are checked against its field before anything runs."""


def check_config(config: Config, members_known: bool = True) -> list[Problem]:
    """Every problem of the configuration as a whole.

    Where the parameter space has problems of its own, nobody knows which members there will be.
    """
    problems = [*check_phases(config)]
    for name in config.declared:
        problems += _container(config, name)
    problems += _inputs(config)
    if members_known:
        problems += _parameters(config)
    for layer in config.layers:
        for entry in layer.entries:
            if members_known or not any(covers(group.pattern, entry.pattern) for group in config.groups):
                problems += _entry(config, entry)
    for name, own in config.phase_layers.items():
        problems += _phase_entries(config.for_phase(name), own)
    return problems


def _phase_entries(config: Config, own: Layer) -> Iterator[Problem]:
    """Problems of what one phase says about containers, in the configuration as it applies there."""
    for entry in own.entries:
        if entry.type is not None and entry.pattern not in config.declared:
            hint = "declare it under `containers:` of the file"
            yield entry.settings.problem("a phase declares no container of its own", suggestion=hint)
            continue
        if (inputs := entry.settings.get("inputs")) is not None:
            yield inputs.problem("phases share one graph", suggestion="set `inputs` under `containers:` of the file")
        for name in config.declared:
            if covers(entry.pattern, name):
                yield from _container(config, name)
        yield from _entry(config, entry)


def _container(config: Config, name: str) -> list[Problem]:
    _, problems = config.convert_stage(name)
    converter = Converter(config.registry, config.root, problems)
    converter.struct(config.data_flow_tree(config.entries_of(name)), DataFlow)
    converter.struct(config.errors_tree(config.entries_of(name)), ErrorPolicy)
    config.convert_inputs(name, converter)
    return converter.problems


def _entry(config: Config, entry: Entry) -> Iterator[Problem]:
    """Problems of an entry that is for no declared container but for members, or for nothing."""
    pattern, settings = entry.pattern, entry.settings
    group = next((group for group in config.groups if group.index(pattern) is not None), None)
    if entry.type is not None and group is not None:
        yield settings.problem(f"'{pattern}' is a member of '{group.pattern}'", suggestion="remove its 'type'")
    if entry.type is not None or any(covers(pattern, name) for name in config.declared):
        return
    member = _member(config, pattern)
    if member is None:
        yield _matches_nothing(config, pattern, settings)
        return
    for key in ("inputs", "errors"):
        if (shared := settings.get(key)) is not None and (key == "inputs" or _runs_as_one(config, member)):
            yield shared.problem(f"members of a group share its {key}", suggestion="set them for the whole group")
    yield from _container(config, member)


def _runs_as_one(config: Config, member: str) -> bool:
    """Whether members are one container; members that are containers of their own may bear errors of their own."""
    stage, _ = config.convert_stage(member)
    return stage is None or stage.groups


def _member(config: Config, pattern: str) -> str | None:
    """The first member of a declared group whose name the pattern holds for."""
    for group in config.groups:
        if group.index(pattern) is not None:
            return pattern
        if is_pattern(pattern):
            for index in islice(range(group.count), MAX_MEMBERS_SEARCHED):
                if covers(pattern, member := group.member(index)):
                    return member
    return None


def _matches_nothing(config: Config, pattern: str, settings: Located) -> Problem:
    group = next((group for group in config.groups if covers(group.pattern, pattern)), None)
    if ready_made := _ready_made(config, pattern):
        hint = ready_made
    elif not config.declared:
        hint = "give it a 'type' to declare it"
    elif group is not None:
        hint = _members_of(group)
    else:
        hint = suggestion(pattern, list(config.declared)) or f"declared: {', '.join(config.declared)}"
    what = "no container matches" if is_pattern(pattern) else "no container is called"
    return settings.problem(f"{what} '{pattern}'", suggestion=hint)


def _ready_made(config: Config, name: str) -> str:
    """A file that declares one container more than a ready-made topology has must say that it wants the others."""
    if config.topology is None:
        for topology, topologist in sorted(config.registry.topologies.items()):
            try:
                names = list(topologist({}))
            except (ValueError, TypeError, LookupError, AttributeError):
                continue  # a hint is not worth a second error
            if any(covers(name, known) or covers(known, name) for known in names):
                return f"add 'topology: {topology}'?"
    return ""


def _members_of(group: Group) -> str:
    last = f" to {group.member(group.count - 1)}" if group.count > 1 else ""
    return f"members of {group.pattern}: {group.member(0)}{last}"


def _inputs(config: Config) -> Iterator[Problem]:
    for name in config.declared:
        here = _at(config, f"containers.{name}.inputs")
        others = [declared for declared in config.declared if declared != name]
        taken: dict[str, list[InputConfig]] = {}
        # Inputs that do not convert have been reported with their container.
        for wanted in config.convert_inputs(name, Converter(config.registry, config.root)):
            source = wanted.source
            group = config.group_of(source)
            if source == name:
                yield here.problem("a container cannot be its own input", found=f"'{source}'")
            elif matched := [declared for declared in config.declared if covers(source, declared)]:
                for declared in matched:
                    twice = [other for other in taken.get(declared, ()) if _share_rows(other, wanted)]
                    if twice:
                        by = (
                            f"'{declared}' twice"
                            if twice[0].source == source
                            else f"'{twice[0].source}' and '{source}'"
                        )
                        hint = f"rows of '{declared}' would come twice; remove one of the two"
                        yield here.problem("expected each input once", found=by, suggestion=hint)
                        break
                for declared in matched:
                    taken.setdefault(declared, []).append(wanted)
            elif group is not None:
                yield here.problem(
                    "a group is read as a whole", found=f"'{source}'", suggestion=f"write '{group.pattern}'"
                )
            else:
                known = f"declared: {', '.join(others)}"
                hint = _ready_made(config, source) or suggestion(source, others) or known
                yield here.problem(f"no container matches '{source}'", suggestion=hint)


def _share_rows(one: InputConfig, other: InputConfig) -> bool:
    """Whether two inputs from the same container would bring some rows twice."""
    return not one.kinds or not other.kinds or not set(one.kinds).isdisjoint(other.kinds)


def _parameters(config: Config) -> Iterator[Problem]:
    """Each parameter is one that a group's stage takes, with values its field accepts."""
    for block in config.parameter_space.blocks:
        made = [config.convert_stage(group.pattern, block) for group in config.groups]
        stages = [stage for stage, _ in made if stage is not None]
        if len(stages) < len(made):
            # What a broken stage takes is not known; that of the first block has been told with its container.
            for _, problems in made:
                yield from problems
            continue
        for parameter in block.axes:
            yield from _parameter(config, block, parameter, stages)


def _parameter(config: Config, block: Block, parameter: str, stages: Sequence[Stage]) -> Iterator[Problem]:
    here = _at(config, f"{block.path}.{parameter}")
    kinds = [kind for stage in stages for kind in _fields_called(parameter, stage)]
    taken = list(dict.fromkeys(name for stage in stages for name in stage.parameter_fields()))
    if parameter not in taken and ("." not in parameter or not kinds):
        within = list(dict.fromkeys(name for stage in stages for name in settings_within(stage)))
        others = [name for name in within if name.rpartition(".")[2] not in taken]
        known = f"known: {', '.join([*taken, *others])}"
        if any(parameter in fields_of(type(stage)) for stage in stages):
            known = f"it is the same for all of a group, set under `containers`; {known}"
        hint = suggestion(parameter, within if "." in parameter else taken) or known
        no_group = "declare a container such as 'portfolio_*'"
        yield here.problem("no group has this parameter", suggestion=hint if stages else no_group)
        return
    converter = Converter(config.registry, config.root)
    axis = block.axes[parameter]
    values = [axis.low, axis.high] if isinstance(axis, Distribution) else islice(axis, MAX_VALUES_CHECKED)
    seen: set[str] = set()
    for number, value in enumerate(values):
        place = _at(config, f"{here.place.path}.{number}").place
        same = repr(canonical(value, config.registry))
        if same in seen:
            hint = "equal values make members that are the same; remove one of them"
            yield Located(None, place).problem("expected each value once", found=f"{value} twice", suggestion=hint)
        seen.add(same)
        for kind in kinds[:1]:
            converter.check(lift(value, place, converter.problems), kind)
    yield from converter.problems


def _fields_called(name: str, struct: msgspec.Struct) -> Iterator[types.Type]:
    """Types of the fields of this name, dotted or bare, here or in the structs inside."""
    for field in fields_of(type(struct)).values():
        if field.name == name:
            yield field.type
        inner = getattr(struct, field.name)
        if isinstance(inner, msgspec.Struct):
            yield from _fields_called(name.removeprefix(f"{field.name}."), inner)


def settings_within(struct: msgspec.Struct, prefix: str = "") -> Iterator[str]:
    """Dotted names of the fields of the structs inside."""
    for field in fields_of(type(struct)).values():
        inner = getattr(struct, field.name)
        if isinstance(inner, msgspec.Struct):
            yield from settings_within(inner, f"{prefix}{field.name}.")
        elif prefix:
            yield f"{prefix}{field.name}"


def _at(config: Config, path: str) -> Located:
    return Located(None, Place(path, *config.locate(path)))
