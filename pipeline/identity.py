"""What makes two runs the same: hashes of configuration, code and data, and the fingerprint that names a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import msgspec
import xxhash

from .handed import HandedTable
from .hashing import hash_files, hash_plain
from .sources import local_sources
from .stage import Recipe, Stage
from .topology import Node, Topology
from .version import code_version

Known: TypeAlias = dict[int, tuple[msgspec.Struct, dict[str, Any]]]
"""By identity, which the struct itself keeps from being taken by another."""
MAX_ITEMS = 1000
"""A longer list in a recipe is data given in Python; it counts by its length, its first and its last item."""


def result_identity(
    topology: Topology,
    extra: Mapping[str, Any],
    is_wanted: Callable[[], bool] = lambda: True,
    *,
    with_data: bool = True,
) -> dict[str, str]:
    """Hashes that belong in a summary: of configuration, code and data. Blocking: reads every input file.

    The configuration hash covers what can change the result: the graph, the stages' fields without their `tuning`
    ones, the members' parameters, and `extra` (seed, limits). Data-flow policies and paths do not count. `with_data`
    hashes the content of the input files, and the rows of tables that were handed to feeds.
    """
    graph = [
        {
            "name": node.name,
            "stage": describe(node.stage, for_result=True),
            "inputs": [[entry.source, *entry.records] if entry.records else entry.source for entry in node.inputs],
            "members": _described(node, for_result=True),
            **_bearing(node),
        }
        for node in topology.nodes
    ]
    hashes = {"configuration": hash_plain({"graph": graph, **extra}), "code": hash_code(topology)}
    if with_data:
        files = hash_files([path for node in topology.feeds for path in node.stage.input_files()], is_wanted)
        fields = (getattr(node.stage, name) for node in topology.feeds for name in node.stage.__struct_fields__)
        handed = [value.hash for value in fields if isinstance(value, HandedTable)]
        hashes["data"] = hash_plain([files, handed]) if handed else files
    return hashes


def fingerprint(topology: Topology, configuration: Any, extra: Mapping[str, Any]) -> str:
    """Twelve hex digits that name a run's folder. Blocking: asks size and time of every input file."""
    inputs = []
    for node in topology.feeds:
        for path in node.stage.input_files():
            status = path.stat()
            inputs.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
    stages = [
        [node.name, describe(node.stage), _described(node, for_result=False), *_bearing(node).values()]
        for node in topology.nodes
    ]
    return hash_plain([configuration, stages, inputs, hash_code(topology), dict(extra)])[:12]


def describe(recipe: Recipe, *, for_result: bool = False, known: Known | None = None) -> dict[str, Any]:
    """A recipe as plain data, nested recipes with their class; without tuning fields when it is `for_result`.

    `known` is what has been described before: members of a group share most of what they are made of.
    """
    known = {} if known is None else known
    hidden = recipe.tuning if for_result and isinstance(recipe, Stage) else frozenset()
    fields = {
        name: _plain(getattr(recipe, name), for_result, known)
        for name in recipe.__struct_fields__
        if name not in hidden
    }
    return {"type": f"{type(recipe).__name__}", **fields}


def _bearing(node: Node) -> dict[str, Any]:
    """What of a container's `errors:` changes a result: which rows and containers may be missing from it."""
    policy = node.errors
    if not policy.dead_letters and policy.on_failure == "fail_phase":
        return {}
    share = [policy.max_dead_share, policy.dead_window_rows] if policy.dead_letters else None
    return {"errors": [policy.on_failure, share]}


def _described(node: Node, *, for_result: bool) -> dict[str, Any]:
    known: Known = {}
    return {name: describe(member, for_result=for_result, known=known) for name, member in node.members.items()}


def _plain(value: Any, for_result: bool, known: Known) -> Any:
    if isinstance(value, msgspec.Struct):
        if id(value) not in known:
            known[id(value)] = (value, _plain_struct(value, for_result, known))
        return known[id(value)][1]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item, for_result, known) for key, item in value.items()}
    if isinstance(value, list | tuple):
        if len(value) > MAX_ITEMS:
            return [len(value), repr(value[0])[:1000], repr(value[-1])[:1000]]
        return [_plain(item, for_result, known) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(repr(item) for item in value)
    return repr(value)[:1000]


def _plain_struct(value: msgspec.Struct, for_result: bool, known: Known) -> dict[str, Any]:
    if isinstance(value, Recipe):
        return describe(value, for_result=for_result, known=known)
    return {name: _plain(getattr(value, name), for_result, known) for name in value.__struct_fields__}


def hash_code(topology: Topology) -> str:
    """Hash of the version and of every source file the recipes of a topology are made of, without paths.

    Those are the modules of the recipes and of their base classes, and what these import, as far as it is neither
    Python's own nor an installed package (whose versions are not asked).
    """
    total = xxhash.xxh3_128(code_version().encode())
    modules = {
        base.__module__
        for node in topology.nodes
        for recipe in (node.stage, *node.members.values())
        for found in _recipes(recipe)
        for base in type(found).__mro__
    }
    for digest in sorted(xxhash.xxh3_128(path.read_bytes()).digest() for path in local_sources(modules)):
        total.update(digest)
    return total.hexdigest()


def _recipes(recipe: Recipe) -> Iterator[Recipe]:
    yield recipe
    for name in recipe.__struct_fields__:
        value = getattr(recipe, name)
        for item in value[:MAX_ITEMS] if isinstance(value, list | tuple) else (value,):
            if isinstance(item, Recipe):
                yield from _recipes(item)
