"""The configuration as it applies: what each container, member and edge is told, and which line told it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from pipeline.data.policy import DataFlow
from pipeline.errors import ConfigError, Problem
from pipeline.mending.tolerance import ErrorPolicy
from pipeline.registry import Registry
from pipeline.stage import Stage

from .canonical import Setting, canonical, recipe_name, settings_in
from .choices import with_choices
from .convert import Converter, fields_of
from .layers import Entry, Layer, final_type, section, stage_fields
from .leaf import suggestion
from .located import Located, Place, is_secret, plain, shown, walk
from .patterns import Group, covers, is_pattern
from .phase import PhaseConfig, WalkForward
from .schema import CheckpointConfig, InputConfig
from .space import Block, Distribution, ParameterSpace
from .space.read import AXIS, place_of, reserved_like

MAX_VALUES_LISTED = 10_000
"""Values of a parameter that are written out in the canonical mapping; a longer range stays a range."""
MAX_COMBINATIONS_TRIED = 1000
"""Combinations tried to find one that a stage accepts."""


@dataclass(frozen=True, eq=False)
class Config:
    """A checked configuration. Made by `load_config`; every answer is computed once per set of matching entries."""

    name: str
    topology: str | None
    """The ready-made topology in use, None for a graph of the file's own."""
    output: str
    process_memory_mb: float | None
    checkpoint: CheckpointConfig
    seed: int
    limit: int | None
    until: str | None
    max_portfolios: int
    """Combinations the parameter space may have."""
    parameter_space: ParameterSpace
    phases: tuple[PhaseConfig, ...]
    """As declared; none where it walks forward, whose phases may depend on where the data begins and ends."""
    split: Mapping[str, float | str]
    walk_forward: WalkForward | None
    declared: tuple[str, ...]
    """Names and patterns of the containers, the topology's first, then in file order."""
    file: str
    """The configuration's file as it was named, empty when it came from Python."""
    root: Path | None
    """The folder that `./file.py:Class` is relative to."""
    source: Located
    """The file's own settings, with their lines."""
    global_data_flow: Located
    """Top-level `data_flow`, with `default_mode` and `default_memory_limit_mb` under the names containers use."""
    layers: tuple[Layer, ...]
    """Container settings, weakest first: the topology's, the file's, `--data`, `--set`."""
    registry: Registry
    phase_layers: Mapping[str, Layer] = field(default_factory=dict)
    """What a phase says about containers, over the file and under `--set`."""
    _stages: dict[tuple[tuple[Entry, ...], int], Stage] = field(default_factory=dict, repr=False)
    _data_flows: dict[tuple[Entry, ...], DataFlow] = field(default_factory=dict, repr=False)

    def for_phase(self, name: str) -> Config:
        """The configuration as it applies in one phase: with what that phase sets for itself."""
        own = self.phase_layers.get(name)
        return self if own is None else replace(self, layers=(*self.layers[:-1], own, self.layers[-1]))

    def stage_of(self, name: str, block: Block | None = None) -> Stage:
        """The recipe of a declared container, or of a member before its parameters are applied. Raises ConfigError.

        A group's is that of a block of the parameter space, without one of the first.
        """
        block = block or self.block_of(name)
        key = self.entries_of(name), block.number
        if key not in self._stages:
            stage, problems = self.convert_stage(name, block)
            if stage is None:
                raise ConfigError(problems)
            self._stages[key] = stage
        return self._stages[key]

    def block_of(self, name: str) -> Block:
        """The block of the parameter space that a member is of; the first for anything else."""
        group = self.group_of(name) if len(self.parameter_space.blocks) > 1 else None
        index = group.index(name) if group is not None else None
        return self.parameter_space.find(index)[0] if index is not None else self.parameter_space.blocks[0]

    def data_flow_of(self, name: str) -> DataFlow:
        """The data-flow policy of a container or member. Raises ConfigError."""
        entries = self.entries_of(name)
        if entries not in self._data_flows:
            converter = Converter(self.registry, self.root)
            policy = converter.struct(self.data_flow_tree(entries), DataFlow)
            if policy is None:
                raise ConfigError(converter.problems)
            self._data_flows[entries] = policy
        return self._data_flows[entries]

    def errors_of(self, name: str) -> ErrorPolicy:
        """What happens when a container's logic fails. Raises ConfigError."""
        converter = Converter(self.registry, self.root)
        policy = converter.struct(self.errors_tree(self.entries_of(name)), ErrorPolicy)
        if policy is None:
            raise ConfigError(converter.problems)
        return policy

    def configures_mode(self, name: str) -> bool:
        """Whether an entry that holds for this container, wildcards and the topology's included, names a mode."""
        data_flow = section(self.entries_of(name), "data_flow")
        return data_flow is not None and data_flow.get("mode") is not None

    def inputs_of(self, name: str) -> tuple[InputConfig, ...]:
        """What a container reads, in order. Raises ConfigError."""
        converter = Converter(self.registry, self.root)
        made = self.convert_inputs(name, converter)
        if converter.problems:
            raise ConfigError(converter.problems)
        return made

    def container_of(self, name: str) -> str | None:
        """The declared container that `name` is, or whose members it names or, as a pattern, selects; or None."""
        if name in self._declared:
            return name
        group = self.group_of(name)
        return group.pattern if group is not None else None

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The declared patterns, each with its number of members."""
        return tuple(Group(name, self.parameter_space.size) for name in self.declared if is_pattern(name))

    def group_of(self, name: str) -> Group | None:
        """The group that a declared pattern, a member's name or a pattern over members belongs to."""
        for group in self.groups:
            if group.index(name) is not None or (is_pattern(name) and covers(group.pattern, name)):
                return group
        return None

    def locate(self, path: str) -> tuple[str, int | None]:
        """File and line of a dotted path as written, or of the nearest setting around it that was written."""
        while path:
            if path in self._places:
                return self._places[path].file, self._places[path].line
            path = path.rpartition(".")[0]
        return self.file, None

    def settings_of(self, name: str) -> list[Setting]:
        """Every effective setting of a container or member, and where each was written."""
        entries = self.entries_of(name)
        stage, named = self.stage_of(name), final_type(entries)
        rows = [Setting("type", recipe_name(stage, self.registry), str(named.place) if named else "")]
        inputs = section(entries, "inputs")
        values = [canonical(item, self.registry) for item in self.inputs_of(name)]
        rows.append(Setting("inputs", values, str(inputs.place) if inputs else "built-in default"))
        rows += self._stage_settings(name)
        rows += settings_in(self.data_flow_of(name), self.data_flow_tree(entries), self.registry, "data_flow")
        rows += settings_in(self.errors_of(name), self.errors_tree(entries), self.registry, "errors")
        return [row if not is_secret(row.setting) else row._replace(value="***") for row in rows]

    def to_mapping(self, *, tuning: bool = True) -> dict[str, Any]:
        """The effective configuration as plain data, the same however it was written; secrets are `***`.

        `tuning=False` leaves out what a stage declares to change only how fast it works or where data lies.
        """
        blocks = [self.block_mapping(block) for block in self.parameter_space.blocks]
        mapping: dict[str, Any] = {
            "name": self.name,
            "topology": self.topology,
            "output": self.output,
            "process_memory_mb": canonical(self.process_memory_mb, self.registry),
            "checkpoint": canonical(self.checkpoint, self.registry),
            "seed": self.seed,
            "limit": self.limit,
            "until": self.until,
            "parameter_space": blocks[0] if len(blocks) == 1 else blocks,
            "phases": [canonical(phase, self.registry) for phase in self.phases],
            "split": canonical(dict(self.split), self.registry),
            "walk_forward": canonical(self.walk_forward, self.registry),
            "containers": {name: self._container_mapping(name, tuning) for name in self.declared},
        }
        members = {name: self._container_mapping(name, tuning) for name in self._members_apart()}
        return mapping | ({"members": members} if members else {})

    def entries_of(self, name: str) -> tuple[Entry, ...]:
        """The entries that hold for a container or member, weakest first. Raises ConfigError for an unknown name."""
        if self.container_of(name) is None:
            self._unknown(name)
        return tuple(entry for layer in self.layers for entry in layer.matching(name))

    def data_flow_tree(self, entries: Iterable[Entry]) -> Located:
        """Guesses of the topology, then the global `data_flow`, then what was written for the container."""
        entries = tuple(entries)
        guessed = section((entry for entry in entries if entry.guessed), "data_flow")
        base = section((Entry("*", Located({"data_flow": self.global_data_flow}, Place(""))),), "data_flow", guessed)
        written = section((entry for entry in entries if not entry.guessed), "data_flow", base)
        return written or self.global_data_flow

    def errors_tree(self, entries: Iterable[Entry]) -> Located:
        """What was written for the container over the global `errors`."""
        common = self.source.get("errors")
        if common is None or not isinstance(common.value, dict):
            common = Located({}, Place("errors"))
        return section(entries, "errors", common) or common

    def block_mapping(self, block: Block, *, short: bool = True) -> dict[str, Any]:
        """A block of the parameter space as plain data; with `short`, a short range reads as the list of its values."""
        made: dict[str, Any] = {}
        for name, item in block.choices.items():
            chosen = {"type": item.value} if isinstance(item.value, str) else plain(item)
            made[name] = canonical(chosen, self.registry)
        for name, axis in block.axes.items():
            if short and not isinstance(axis, Distribution) and len(axis) <= MAX_VALUES_LISTED:
                made[name] = canonical(list(axis), self.registry)
            else:
                made[name] = canonical(block.given[name], self.registry)
        if block.where:
            made["where"] = [constraint.text for constraint in block.where]
        if block.sample is not None:
            made["sample"] = canonical(block.sample, self.registry) | {"seed": block.seed[0]}
        return made

    def convert_stage(self, name: str, block: Block | None = None) -> tuple[Stage | None, list[Problem]]:
        """The stage of a container, or None and why.

        Required fields of a group's stage that nobody wrote take the first combination of the parameter space that
        the stage accepts: a sweep may well begin with one that its strategy refuses.
        """
        entries = self.entries_of(name)
        group = self.group_of(name)
        block = block or self.block_of(name)
        if group is not None and block.choices:
            entries, problems = self._with_choices(entries, group.pattern, block)
            if problems:
                return None, problems
        named, fields = final_type(entries), stage_fields(entries)
        if named is None or fields is None:
            return None, [Problem(f"containers.{name}", "expected a 'type'", file=self.file)]
        combinations = islice(block, MAX_COMBINATIONS_TRIED) if group is not None else iter([{}])
        refused = self.parameter_space.refused
        problems = []
        for combination in combinations:
            converter = Converter(self.registry, self.root, [], combination, excused=refused)
            cls = converter.stage_class(named, Stage)
            made = converter.struct(fields, cls) if cls is not None else None
            if isinstance(made, Stage):
                return made, []
            problems = problems or converter.problems
            if not converter.used_placeholders:
                break
        return None, problems

    def convert_inputs(self, name: str, converter: Converter) -> tuple[InputConfig, ...]:
        """The inputs that could be understood; the others are problems in the converter."""
        written = section(self.entries_of(name), "inputs")
        if written is None:
            return ()
        items = written.value if isinstance(written.value, list) else [written]
        made = (converter.struct(_input_mapping(item), InputConfig) for item in items)
        return tuple(item for item in made if item is not None)

    def _container_mapping(self, name: str, tuning: bool) -> dict[str, Any]:
        stage = self.stage_of(name)
        fields: dict[str, Any] = canonical(stage, self.registry)
        if not tuning:
            fields = {key: value for key, value in fields.items() if key not in stage.tuning}
        return fields | {
            "inputs": [canonical(item, self.registry) for item in self.inputs_of(name)],
            "data_flow": canonical(self.data_flow_of(name), self.registry),
            "errors": canonical(self.errors_of(name), self.registry),
        }

    def _with_choices(
        self, entries: tuple[Entry, ...], pattern: str, block: Block
    ) -> tuple[tuple[Entry, ...], list[Problem]]:
        """The entries with what a block chooses among them; or which of it the stage has no room for."""
        named = final_type(entries)
        cls = Converter(self.registry, self.root).stage_class(named, Stage) if named is not None else None
        if cls is None:
            return entries, []
        known = fields_of(cls)
        wrong = [
            item.problem(
                f"expected {AXIS}",
                found=shown(item.value, item.place.path),
                suggestion=reserved_like(key) or _listed(item),
            )
            for key, item in block.choices.items()
            if key not in known
        ]
        return (with_choices(entries, pattern, block.choices, cls) if not wrong else entries), wrong

    def _members_apart(self) -> list[str]:
        """Members that entries of their own set apart from their group; as patterns where a pattern does."""
        apart: dict[str, None] = {}
        for group in self.groups:
            common = self.entries_of(group.pattern)
            special = [
                entry
                for layer in self.layers
                for entry in layer.entries
                if entry not in common and entry.pattern not in self._declared
            ]
            exact = {entry.pattern for entry in special if not is_pattern(entry.pattern)}
            patterns = [entry.pattern for entry in special if is_pattern(entry.pattern)]
            apart |= {name: None for name in exact if group.index(name) is not None}
            if patterns:
                names = (group.member(index) for index in range(group.count))
                apart |= {name: None for name in names if any(covers(pattern, name) for pattern in patterns)}
        return sorted(apart)

    def _settings_of_block(self, name: str, block: Block) -> list[Setting]:
        """Settings of the stage of a container, or of a member or group as a block has it."""
        entries = self.entries_of(name)
        group = self.group_of(name)
        if group is None or not self.parameter_space:
            return settings_in(self.stage_of(name), stage_fields(entries), self.registry)
        if block.choices:
            entries, _ = self._with_choices(entries, group.pattern, block)
        rows = settings_in(self.stage_of(name, block), stage_fields(entries), self.registry)
        index = group.index(name)
        combination = self.parameter_space[index] if index is not None else {}
        for parameter, given in block.given.items():
            # A bare name is that of a field of the first struct that has one, as stages read it.
            last = [at for at, row in enumerate(rows) if f".{row.setting}".endswith(f".{parameter}")]
            for at in last[:1]:
                value = combination[parameter] if index is not None else canonical(given, self.registry)
                place = place_of(self.source, block, parameter)
                rows[at] = Setting(rows[at].setting, value, str(place) if place else "parameter_space")
        return rows

    def _stage_settings(self, name: str) -> list[Setting]:
        """Settings of a container's stage; a group's that differ from block to block, once for each."""
        group = self.group_of(name)
        blocks = self.parameter_space.blocks
        if group is None or group.index(name) is not None or len(blocks) == 1:
            return self._settings_of_block(name, self.block_of(name))
        told = [(block, self._settings_of_block(name, block)) for block in blocks]
        shared = set.intersection(*({repr(row) for row in rows} for _, rows in told))
        rows = [row for row in told[0][1] if repr(row) in shared]
        for block, own in told:
            rows += [row._replace(setting=f"{row.setting} ({block.path})") for row in own if repr(row) not in shared]
        return rows

    @cached_property
    def _declared(self) -> frozenset[str]:
        return frozenset(self.declared)

    @cached_property
    def _places(self) -> dict[str, Place]:
        """Where each dotted path was written: in the file, or later on the command line."""
        later = [entry.settings for layer in self.layers[2:] for entry in layer.entries]
        return {item.place.path: item.place for written in (self.source, *later) for item in walk(written)}

    def _unknown(self, name: str) -> NoReturn:
        known = [*self.declared, *(group.member(0) for group in self.groups)]
        for group in self.groups:
            before, _, after = group.pattern.partition("*")
            if name.startswith(before) and name.endswith(after):
                last = group.member(group.count - 1)
                hint = f"members are {group.member(0)} to {last}" if group.count else "it has no members"
                raise ConfigError([Problem(name, f"no member of {group.pattern}", suggestion=hint, file=self.file)])
        hint = suggestion(name, known) or f"known: {', '.join(self.declared)}"
        raise ConfigError([Problem(name, "no container has this name", suggestion=hint, file=self.file)])


def _listed(item: Located) -> str:
    return f"write [{item.value}]?" if isinstance(item.value, str) else ""


def _input_mapping(item: Located) -> Located:
    return Located({"from": item}, item.place) if isinstance(item.value, str) else item
