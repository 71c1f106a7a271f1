"""Finds the source files a module is made of: its own, and those of what it imports, read without running anything."""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path

_ELSEWHERE = tuple(
    str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
"""Python's own modules and installed packages."""


def local_sources(modules: Iterable[str]) -> list[Path]:
    """Files of these modules and of all they import, however far, that are neither Python's own nor installed."""
    found: dict[Path, None] = {}
    waiting = [path for name in modules if (path := _file_of_loaded(name)) is not None]
    while waiting:
        path = waiting.pop()
        if path not in found and _is_local(path):
            found[path] = None
            waiting.extend(imports_of(path, path.stat().st_mtime_ns))
    return sorted(found)


@lru_cache(maxsize=4096)
def imports_of(path: Path, changed_ns: int) -> tuple[Path, ...]:
    """Files of the modules a source file imports, wherever in it; `changed_ns` only keeps the answer fresh."""
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:
        return ()
    return tuple(file for name in _names(tree, path) if (file := _file_of(name, path.parent)) is not None)


def _names(tree: ast.AST, path: Path) -> Iterator[str]:
    """Absolute names of modules imported; of `from a import b` both `a` and `a.b`, which may be a module."""
    package = _package_of(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parts, *(node.module or "").split(".")]).strip(".")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _package_of(path: Path) -> list[str]:
    """The package a file lies in: the folders above it that have an `__init__.py`."""
    parts: list[str] = []
    folder = path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return parts


def _file_of(name: str, beside: Path) -> Path | None:
    """The file of a module by name, beside the importing file or on the path; None where it has none."""
    root = beside
    while (root / "__init__.py").is_file():
        root = root.parent
    relative = Path(*name.split(".")) if name else Path()
    for base in (beside, root):
        for candidate in (base / relative.with_suffix(".py"), base / relative / "__init__.py") if name else ():
            if candidate.is_file():
                return candidate.resolve()
    top = name.split(".")[0]
    if not top or top in sys.stdlib_module_names:
        return None
    spec = PathFinder.find_spec(top)
    if spec is None or not spec.origin or not spec.has_location:
        return None
    origin = Path(spec.origin).resolve()
    if not _is_local(origin):
        return None
    base = origin.parent.parent if origin.name == "__init__.py" else origin.parent
    for candidate in (base / relative.with_suffix(".py"), base / relative / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _file_of_loaded(name: str) -> Path | None:
    file = getattr(sys.modules.get(name), "__file__", None)
    return Path(file).resolve() if file and file.endswith(".py") else None


def _is_local(path: Path) -> bool:
    return not str(path).startswith(_ELSEWHERE)
