"""Names for recipes, topologies and reports: `type: replay` finds a class here. A registry is a value, not a global."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pyarrow as pa

from .report import Inspector, Reporter, Work
from .stage import Recipe

ENTRY_POINT_GROUP = "pipeline.stages"
R = TypeVar("R", bound=Recipe)
Topologist: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Makes a ready-made topology: takes the user's whole configuration, gives defaults for `containers`."""


class UnknownType(LookupError):
    """No recipe of that name; the message suggests near ones."""


@dataclass
class Registry:
    """Recipes, ready-made topologies, reports and kinds of record by name."""

    recipes: dict[str, type[Recipe]] = field(default_factory=dict)
    topologies: dict[str, Topologist] = field(default_factory=dict)
    reports: dict[str, Reporter] = field(default_factory=dict)
    records: dict[str, pa.Schema] = field(default_factory=dict)
    qualities: dict[str, Inspector] = field(default_factory=dict)
    works: dict[str, Work] = field(default_factory=dict)

    @classmethod
    def installed(cls) -> Registry:
        """Everything the installed packages offer through the entry-point group `pipeline.stages`."""
        registry = cls()
        for entry_point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda found: found.name):
            entry_point.load()(registry)
        return registry

    def add(self, name: str, recipe: type[Recipe]) -> None:
        if self.recipes.setdefault(name, recipe) is not recipe:
            raise ValueError(f"two recipes are called {name!r}: {self.recipes[name]} and {recipe}")

    def add_topology(self, name: str, topologist: Topologist) -> None:
        if self.topologies.setdefault(name, topologist) is not topologist:
            raise ValueError(f"two topologies are called {name!r}")

    def add_report(self, name: str, reporter: Reporter) -> None:
        if self.reports.setdefault(name, reporter) is not reporter:
            raise ValueError(f"two reports are called {name!r}")

    def add_quality(self, name: str, inspector: Inspector) -> None:
        if self.qualities.setdefault(name, inspector) is not inspector:
            raise ValueError(f"two reports on quality are called {name!r}")

    def add_work(self, name: str, work: Work) -> None:
        """What the command of this name does."""
        if self.works.setdefault(name, work) is not work:
            raise ValueError(f"two works are called {name!r}")

    def add_record(self, name: str, schema: pa.Schema) -> None:
        """A kind of record; metadata tell its `meaning`, and the `unit` and `meaning` of each column."""
        if not self.records.setdefault(name, schema).equals(schema, check_metadata=True):
            raise ValueError(f"two kinds of record are called {name!r}")

    def names(self, family: type[Recipe] = Recipe) -> list[str]:
        return sorted(name for name, recipe in self.recipes.items() if issubclass(recipe, family))

    def find(self, name: str, family: type[R], root: Path | None = None) -> type[R]:
        """The recipe called `name`, or the class at `module:Name` or `./file.py:Name` (relative to `root`).

        Raises `UnknownType` where there is none, or where it is not of the family asked for.
        """
        found: Any = self.recipes.get(name)
        if found is None and ":" in name:
            found = _load(name, root)
        if found is None:
            near = difflib.get_close_matches(name, self.names(family), n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(self.names(family))}"
            raise UnknownType(f"no {family.__name__.lower()} is called '{name}'; {hint}")
        if not (isinstance(found, type) and issubclass(found, family)):
            kind = found.__name__ if isinstance(found, type) else type(found).__name__
            raise UnknownType(f"'{name}' is {kind}, which is not a {family.__name__}")
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.recipes))


def _load(name: str, root: Path | None) -> Any:
    place, _, attribute = name.rpartition(":")
    if place.endswith(".py"):
        module = _load_file((root or Path()) / place)
    else:
        try:
            module = importlib.import_module(place)
        except ImportError as error:
            raise UnknownType(f"cannot import module '{place}' of '{name}': {error}") from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise UnknownType(f"'{place}' has no class '{attribute}'") from None


def _load_file(path: Path) -> Any:
    """Import a file once per content, under a name made of its path, so that its classes stay the same objects."""
    path = path.resolve()
    if not path.is_file():
        raise UnknownType(f"there is no file {path}")
    source = path.read_bytes()
    name = f"penstock_user_{path.stem}_{sha256(str(path).encode() + source).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise UnknownType(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))  # so that it can import what lies beside it, as a script can
    try:
        # Not through the loader: its cache would take a file edited within the same second for the old one.
        exec(compile(source, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        said = f"{path} cannot be imported: {type(error).__name__}: {error}{_line_of(error, path, source)}"
        raise UnknownType(said) from error
    finally:
        sys.path.remove(str(path.parent))
    return module


def _line_of(error: BaseException, path: Path, source: bytes) -> str:
    """` (line 7: class Mine(Strategy):)`, the last line of a file that was at work; nothing where it never was."""
    lines = [at for frame, at in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == str(path)]
    if not lines:
        return ""
    text = source.decode(errors="replace").splitlines()[lines[-1] - 1].strip()
    return f" (line {lines[-1]}: {text})"
