"""Loads a configuration: file, text or mapping in, checked `Config` out, or every problem at once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, Problem
from pipeline.handed import HandedTable
from pipeline.registry import Registry

from .check import check_config
from .convert import Converter, fields_of
from .feed_path import owner_of, with_data, with_settings
from .layers import Entry, Layer
from .leaf import suggestion
from .located import BROKEN, Located, Place, lift, plain, shown
from .overrides import put, read_override
from .patterns import NAME, is_pattern
from .phase import PhaseConfig
from .reader import MAX_BYTES, read_yaml
from .resolve import Config
from .schema import ConfigFile, GlobalDataFlow
from .space.read import read_space

DEFAULT_TOPOLOGY = "backtest"
MAX_STARS = 4
"""Stars of one pattern; more would let a short pattern take long to match."""
TEXT_FILE = "<text>"


def load_config(
    source: Path | str | Mapping[str, Any],
    *,
    registry: Registry,
    overrides: Sequence[str] = (),
    data: str | HandedTable | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration in `source`: a path, YAML text (anything with a line break or a colon and a space), or a
    mapping of the same words.

    `overrides` are `a.b=c` of `--set`; `data` is the path that `--data` gives to the one feed, or a table in its place.
    `settings` are fields by name, each for the first container whose stage has it, feeds before what reads from them.
    Raises `ConfigError` with every problem, in the order of the file.
    """
    loading = _Loading(registry, settings=settings or {})
    try:
        config = loading.load(source, overrides, data)
    except ConfigError as error:
        loading.problems.extend(error.problems)
        config = None
    if config is None or loading.problems:
        raise ConfigError(_in_file_order(loading.problems, loading.file))
    return config


def _in_file_order(problems: Sequence[Problem], file: str) -> list[Problem]:
    """Each problem once: the file's by line, then those of the command line."""
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda found: (found.file != file, found.line is None, found.line or 0))


@dataclass
class _Loading:
    registry: Registry
    problems: list[Problem] = field(default_factory=list)
    file: str = ""
    stem: str = "run"
    root: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def load(
        self, source: Path | str | Mapping[str, Any], overrides: Sequence[str], data: str | HandedTable | None
    ) -> Config | None:
        written = self.read(source)
        if written is None:
            return None
        given = [made for text in overrides if (made := read_override(text, self.problems)) is not None]
        own = [(keys, value) for keys, value in given if keys[0] != "containers" or len(keys) == 1]
        for keys, value in own:
            written = put(written, keys, value)
        set_layer = Layer(self.set_entries([made for made in given if made not in own]))
        header = self.header(written)
        file_layer = Layer(self.entries(written.get("containers")))
        topology, guesses = self.topology(written, header, file_layer, set_layer)
        return self.assemble(written, header, topology, (guesses, file_layer, Layer(), set_layer), data)

    def read(self, source: Path | str | Mapping[str, Any]) -> Located | None:
        """The source as a mapping with places."""
        if isinstance(source, Mapping):
            return lift(source, Place(""), self.problems)
        text = source if isinstance(source, str) and _is_text(source) else self.read_file(Path(source))
        if text is None:
            return None
        if not self.file:
            self.file = TEXT_FILE
        found = len(self.problems)
        written = read_yaml(text, self.file, os.environ, self.problems)
        if written is not None and isinstance(written.value, dict):
            return written
        if len(self.problems) == found:
            what = "an empty file" if written is None or written.value is None else shown(written.value, "")
            self.problems.append(Problem("", "expected a mapping of settings", what, file=self.file, line=1))
        return None

    def read_file(self, path: Path) -> str | None:
        self.file, self.root = str(path), path.parent
        self.stem = re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem).lstrip(".-")[:100] or "run"
        try:
            with path.open("rb") as opened:
                content = opened.read(MAX_BYTES + 1)
            return content.decode("utf-8-sig")
        except FileNotFoundError:
            near = suggestion(path.name, [item.name for item in path.parent.glob("*.y*ml")])
            self.problems.append(Problem("", "there is no such file", suggestion=near, file=self.file))
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            self.problems.append(Problem("", "expected UTF-8 text", file=self.file, line=line))
        except (OSError, ValueError) as error:
            # ValueError: a name that no file system has, such as one with a null character.
            why = getattr(error, "strerror", None) or str(error)
            self.problems.append(Problem("", f"cannot read it: {why}", file=self.file[:200]))
        return None

    def header(self, written: Located) -> ConfigFile:
        """The settings outside of `containers`; defaults stand in for what had problems."""
        converter = Converter(self.registry, self.root, self.problems)
        values: dict[str, Any] = {"name": self.stem}
        for key, item in written:
            if key == "parameter_space":
                continue
            # One key at a time, so that a problem in one leaves the others to be checked against.
            made = converter.struct(Located({key: item}, written.place), ConfigFile)
            if made is not None and key != "containers" and item.value is not None:
                values[key] = getattr(made, key)
        return ConfigFile(**values)

    def entries(self, containers: Located | None) -> list[Entry]:
        """The entries of `containers:`, misshapen ones left out with a problem."""
        made = []
        for name, item in containers or ():
            declares = isinstance(item.value, dict) and item.get("type") is not None
            if declares and is_pattern(name) and (name.count("*") != 1 or "?" in name):
                self.problems.append(item.problem("expected one '*' in the name of a group", found=f"'{name}'"))
            elif NAME.fullmatch(name) is None or name.count("*") > MAX_STARS:
                expected = "expected a container's name of letters, digits, '_', '-' and wildcards, at most 100"
                self.problems.append(item.problem(expected, found=repr(name[:100])))
            elif item.value is BROKEN:
                continue
            elif item.value is None or isinstance(item.value, dict):
                made.append(Entry(name, Located(item.value or {}, item.place)))
            else:
                self.problems.append(item.problem("expected a mapping of settings", found=shown(item.value, name)))
        return made

    def phase_layers(self, written: Located) -> dict[str, Layer]:
        """By name of the phase, what it says about containers."""
        phases = written.get("phases")
        made = {}
        for item in phases.value if phases is not None and isinstance(phases.value, list) else ():
            name, containers = item.get("name"), item.get("containers")
            if name is not None and isinstance(name.value, str) and containers is not None:
                made[name.value] = Layer(self.entries(containers))
        return made

    def set_entries(self, given: Sequence[tuple[list[str], Located]]) -> list[Entry]:
        found = []
        for keys, value in given:
            place = Place(f"containers.{keys[1]}", value.place.file)
            settings = put(Located({}, place), keys[2:], value)
            found += self.entries(Located({keys[1]: settings}, Place("containers", value.place.file)))
        return found

    def topology(
        self, written: Located, header: ConfigFile, file_layer: Layer, set_layer: Layer
    ) -> tuple[str | None, Layer]:
        """The ready-made topology in use and its guesses: the one named, or the default one where it fits."""
        name = header.topology or DEFAULT_TOPOLOGY
        topologist = self.registry.topologies.get(name)
        if topologist is None:
            named = written.get("topology")
            if header.topology is not None and named is not None:
                known = sorted(self.registry.topologies)
                hint = suggestion(name, known) or f"known: {', '.join(known)}"
                self.problems.append(named.problem("no topology has this name", found=f"'{name}'", suggestion=hint))
            return None, Layer()
        whole = written
        for entry in set_layer.entries:
            for key, value in entry.settings:
                whole = put(whole, ["containers", entry.pattern, key], value)
        try:
            guessed = topologist(user_mapping(whole))
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            # It looks at settings that nobody has checked yet.
            self.problems.append(Problem("topology", f"'{name}' cannot be made: {error}", file=self.file))
            return name, Layer()
        declared = {entry.pattern for layer in (file_layer, set_layer) for entry in layer.entries if entry.type}
        if header.topology is None and not declared <= set(guessed):
            return None, Layer()
        place = Place("containers", "topology default")
        lifted = lift(guessed, place, self.problems)
        return name, Layer(Entry(pattern, item, guessed=True) for pattern, item in lifted)

    def assemble(
        self,
        written: Located,
        header: ConfigFile,
        topology: str | None,
        layers: tuple[Layer, ...],
        data: str | HandedTable | None,
    ) -> Config:
        converter = Converter(self.registry, self.root, self.problems)
        space = read_space(written.get("parameter_space"), header.seed, header.max_portfolios, converter)
        members_known = not any(found.path.startswith("parameter_space") for found in self.problems)
        declared: dict[str, None] = {}
        for layer in layers:
            declared |= {entry.pattern: None for entry in layer.entries if entry.type is not None}
        config = Config(
            name=header.name,
            topology=topology,
            output=header.output,
            process_memory_mb=header.process_memory_mb,
            checkpoint=header.checkpoint,
            seed=header.seed,
            limit=header.limit,
            until=header.until,
            max_portfolios=header.max_portfolios,
            parameter_space=space,
            phases=_phases(header),
            split=header.split,
            walk_forward=header.walk_forward,
            phase_layers=self.phase_layers(written),
            declared=tuple(declared),
            file=self.file,
            root=self.root,
            source=written,
            global_data_flow=_under_container_names(written.get("data_flow"), self.problems),
            layers=layers,
            registry=self.registry,
        )
        if data is not None:
            config = with_data(config, data, self.problems)
        config = with_settings(config, self.settings, self.problems)
        self.place_strays(config, written)
        self.problems += check_config(config, members_known)
        return config

    def place_strays(self, config: Config, written: Located) -> None:
        """Of what the top level does not know, say where it belongs, where a container has such a setting."""
        strays = [key for key, _ in written if key not in fields_of(ConfigFile)]
        owners = {key: owner for key in strays if (owner := owner_of(config, key)) is not None}
        for number, found in enumerate(self.problems):
            if found.path in owners:
                hint = f"it goes under a container: `containers.{owners[found.path]}.{found.path}`"
                self.problems[number] = replace(found, suggestion=hint)


def _phases(header: ConfigFile) -> tuple[PhaseConfig, ...]:
    """The phases declared, or made of the names of a split, or the one there is where nobody says anything."""
    if header.phases is not None:
        return tuple(header.phases)
    if header.walk_forward is not None:
        return ()
    return tuple(PhaseConfig(name=name) for name in header.split or ("run",))


def _is_text(source: str) -> bool:
    """Whether a string is YAML rather than the path of a file."""
    return "\n" in source or ": " in source or source.rstrip().endswith(":") or not source.strip()


def user_mapping(source: Located) -> dict[str, Any]:
    """What a ready-made topology is given to look at: the plain settings, misshapen parts left out."""
    value: dict[str, Any] = plain(source)
    for key in ("containers", "data_flow", "parameter_space"):
        if not isinstance(value.get(key), dict) and not (key == "parameter_space" and isinstance(value.get(key), list)):
            value.pop(key, None)
    if "containers" in value:
        entries = value["containers"].items()
        value["containers"] = {name: entry if isinstance(entry, dict) else {} for name, entry in entries}
    return value


def _under_container_names(data_flow: Located | None, problems: list[Problem]) -> Located:
    """Global `data_flow` with `default_mode` called `mode`, and so on, keeping the place where it was written."""
    if data_flow is None or not isinstance(data_flow.value, dict):
        return Located({}, data_flow.place if data_flow is not None else Place("data_flow"))
    renamed: dict[str, Located] = {}
    for key, item in data_flow:
        if item.value is None or key not in GlobalDataFlow.__struct_fields__:
            continue
        name = key.removeprefix("default_")
        if name in renamed:
            problems.append(item.problem(f"expected '{name}' or 'default_{name}'", found="both"))
        renamed[name] = item
    return Located(renamed, data_flow.place)
