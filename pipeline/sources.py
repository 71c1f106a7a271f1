"""Finds the source files a module is made of: its own, and those of what it imports, read without running anything."""

from __future__ import annotations

import ast
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path

_ELSEWHERE = tuple(
    str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
"""Python's own modules and installed packages."""
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
"""Where statements lie within others."""


def local_sources(modules: Iterable[str]) -> list[Path]:
    """Files of these modules and of all they import, however far, that are neither Python's own nor installed."""
    found: dict[Path, None] = {}
    finder = _Finder()
    waiting = [path for name in modules if (path := _file_of_loaded(name)) is not None]
    while waiting:
        path = waiting.pop()
        if path not in found and _is_local(path):
            found[path] = None
            waiting.extend(_imports_of(path, finder))
    return sorted(found)


_imports: dict[Path, tuple[int, tuple[Path, ...]]] = {}
"""Of files that were read: when they had changed, and files of the modules they import, wherever in them."""


def _imports_of(path: Path, finder: _Finder) -> tuple[Path, ...]:
    changed_ns = path.stat().st_mtime_ns
    known = _imports.get(path)
    if known is not None and known[0] == changed_ns:
        return known[1]
    try:
        names = dict.fromkeys(_names(ast.parse(path.read_bytes()), finder.package_of(path)))
    except SyntaxError:
        names = {}
    files = tuple(file for name in names if (file := finder.file_of(name, path.parent)) is not None)
    _imports[path] = changed_ns, files
    return files


def _names(tree: ast.AST, package: list[str]) -> Iterator[str]:
    """Absolute names of modules imported; of `from a import b` both `a` and `a.b`, which may be a module."""
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parts, *(node.module or "").split(".")]).strip(".")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements within, however deep; no import is anywhere else."""
    for block in _BLOCKS:
        for inner in getattr(node, block, ()):
            yield inner
            yield from _statements(inner)


class _Finder:
    """Finds files of modules; what folders hold is looked at once in its life."""

    def __init__(self) -> None:
        self._held: dict[Path, frozenset[str]] = {}
        self._files: dict[tuple[Path, str], Path | None] = {}
        self._tops: dict[str, Path | None] = {}

    def package_of(self, path: Path) -> list[str]:
        """The package a file lies in: the folders above it that have an `__init__.py`."""
        return list(path.parent.relative_to(self._root_of(path.parent)).parts)

    def file_of(self, name: str, beside: Path) -> Path | None:
        """The file of a module by name, beside the importing file or on the path; None where it has none."""
        key = (beside, name)
        if key not in self._files:
            self._files[key] = self._find(name, beside) if name else None
        return self._files[key]

    def _find(self, name: str, beside: Path) -> Path | None:
        for base in (beside, self._root_of(beside)):
            if (file := self._below(base, name)) is not None:
                return file.resolve()
        top = name.partition(".")[0]
        if not top or top in sys.stdlib_module_names:
            return None
        if top not in self._tops:
            self._tops[top] = _installed_in(top)
        base_of_top = self._tops[top]
        return None if base_of_top is None else self._below(base_of_top, name)

    def _below(self, base: Path, name: str) -> Path | None:
        *folders, last = name.split(".")
        for folder in folders:
            if folder not in self._names_in(base):
                return None
            base = base / folder
        if f"{last}.py" in self._names_in(base):
            return base / f"{last}.py"
        if last in self._names_in(base) and "__init__.py" in self._names_in(base / last):
            return base / last / "__init__.py"
        return None

    def _root_of(self, folder: Path) -> Path:
        """The first folder at or above it that is no package."""
        while "__init__.py" in self._names_in(folder):
            folder = folder.parent
        return folder

    def _names_in(self, folder: Path) -> frozenset[str]:
        if folder not in self._held:
            try:
                self._held[folder] = frozenset(os.listdir(folder))
            except OSError:
                self._held[folder] = frozenset()
        return self._held[folder]


def _installed_in(top: str) -> Path | None:
    """The folder in which a module or package lies that is on the path, and local."""
    spec = PathFinder.find_spec(top)
    if spec is None or not spec.origin or not spec.has_location:
        return None
    origin = Path(spec.origin).resolve()
    if not _is_local(origin):
        return None
    return origin.parent.parent if origin.name == "__init__.py" else origin.parent


def _file_of_loaded(name: str) -> Path | None:
    file = getattr(sys.modules.get(name), "__file__", None)
    return Path(file).resolve() if file and file.endswith(".py") else None


def _is_local(path: Path) -> bool:
    return not str(path).startswith(_ELSEWHERE)
