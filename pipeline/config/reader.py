"""Reads YAML as plain data in which every key and item knows its line.

It works on the parser's events with a stack of its own, so hostile nesting cannot exhaust Python's; aliases are
expanded against a bound, and no tag ever makes an object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from pipeline.errors import Problem

from .located import BROKEN, MAX_DEPTH, Located, Place
from .scalars import MissingVariable, expand, resolve

MAX_BYTES = 8 << 20
MAX_VALUES = 200_000
"""Values of one file after aliases are expanded."""
_TAGS = {None, "!", "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
_QUOTED = frozenset("'\"|>")
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(
    text: str, file: str, environment: Mapping[str, str], problems: list[Problem], path: str = ""
) -> Located | None:
    """The one document of `text`; None where a problem leaves nothing to go on with. Empty text is a null value."""
    if len(text) > MAX_BYTES:
        problems.append(Problem(path, f"expected at most {MAX_BYTES} bytes of YAML", str(len(text)), file=file))
        return None
    try:
        root = _compose(text)
        if root is None:
            return Located(None, Place(path, file, 1))
        return _Expansion(file, environment, problems).value(root, Place(path, file, root.line), 0)
    except _Refused as refused:
        problems.append(Problem(path, refused.expected, refused.found, refused.suggestion, file, refused.line))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problems.append(_syntax_problem(path, file, error.problem or str(error), mark.line + 1 if mark else None))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1 if isinstance(error.position, int) else None
        problems.append(_syntax_problem(path, file, "a character that YAML does not allow", line))
    except yaml.YAMLError as error:
        problems.append(_syntax_problem(path, file, str(error), None))
    return None


def _syntax_problem(path: str, file: str, found: str, line: int | None) -> Problem:
    suggestion = "indent with spaces, not tabs" if "'\\t'" in found or "tab" in found else ""
    return Problem(path, "expected YAML", found.removeprefix("found "), suggestion, file, line)


class _Refused(Exception):
    def __init__(self, line: int, expected: str, found: str = "", suggestion: str = "") -> None:
        super().__init__(expected)
        self.line, self.expected, self.found, self.suggestion = line, expected, found, suggestion


@dataclass(slots=True, eq=False)
class _Node:
    """A scalar (`text`), a list (`items`) or a mapping (`items` alternate between keys and values)."""

    line: int
    text: str | None = None
    plain: bool = False
    mapping: bool = False
    items: list[_Node] = field(default_factory=list)
    open: bool = False


def _compose(text: str) -> _Node | None:
    root: _Node | None = None
    stack: list[_Node] = []
    anchors: dict[str | None, _Node] = {}
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.CollectionEndEvent):
            stack.pop().open = False
            continue
        if isinstance(event, yaml.DocumentStartEvent) and root is not None:
            raise _Refused(line, "expected one YAML document", "a second one")
        if not isinstance(event, yaml.NodeEvent):
            continue
        node = _node(event, line, anchors)
        if stack:
            stack[-1].items.append(node)
        else:
            root = node
        if isinstance(event, yaml.CollectionStartEvent):
            if len(stack) >= MAX_DEPTH:
                raise _Refused(line, f"expected at most {MAX_DEPTH} levels of nesting", "more")
            stack.append(node)
    return root


def _node(event: yaml.NodeEvent, line: int, anchors: dict[str | None, _Node]) -> _Node:
    if isinstance(event, yaml.AliasEvent):
        found = anchors.get(event.anchor)
        if found is None or found.open:
            raise _Refused(line, "expected an alias of an anchor that is complete", f"'*{event.anchor}'")
        return found
    tag = getattr(event, "tag", None)
    if tag not in _TAGS:
        raise _Refused(line, "expected plain data", f"the tag '{tag}'", "remove the tag")
    if isinstance(event, yaml.ScalarEvent):
        node = _Node(line, text=event.value, plain=tag is None and event.style not in _QUOTED)
    else:
        node = _Node(line, mapping=isinstance(event, yaml.MappingStartEvent), open=True)
    if event.anchor:
        anchors[event.anchor] = node
    return node


@dataclass
class _Expansion:
    """Turns nodes into values: resolves scalars, expands variables and aliases, finds duplicate keys."""

    file: str
    environment: Mapping[str, str]
    problems: list[Problem]
    values: int = 0

    def value(self, node: _Node, place: Place, depth: int) -> Located:
        self.bounded(node, depth)
        if node.text is not None:
            return Located(self.scalar(node, node.text, place), place)
        if node.mapping:
            return Located(self.entries(node, place, depth), place)
        items = (self.value(item, self.place(place, n, item), depth + 1) for n, item in enumerate(node.items))
        return Located(list(items), place)

    def bounded(self, node: _Node, depth: int) -> None:
        self.values += 1
        if self.values > MAX_VALUES:
            raise _Refused(node.line, f"expected at most {MAX_VALUES} values", "more", "check the aliases")
        if depth > MAX_DEPTH:
            raise _Refused(node.line, f"expected at most {MAX_DEPTH} levels of nesting", "more")

    def scalar(self, node: _Node, text: str, place: Place) -> Any:
        try:
            text = expand(text, self.environment)
        except MissingVariable as missing:
            self.problems.append(Problem(place.path, f"expected {missing}", file=self.file, line=node.line))
            return BROKEN
        return resolve(text) if node.plain else text

    def entries(self, node: _Node, place: Place, depth: int) -> dict[str, Located]:
        merged: dict[str, Located] = {}
        own: dict[str, Located] = {}
        for key, item in zip(node.items[::2], node.items[1::2], strict=True):
            if key.text is None:
                raise _Refused(key.line, "expected a key that is text", "a mapping or a list")
            if key.text == "<<" and key.plain:
                for source in item.items if item.text is None and not item.mapping else [item]:
                    if not source.mapping:
                        raise _Refused(key.line, "expected mappings to merge after '<<'")
                    self.bounded(key, depth)
                    merged = self.entries(source, place, depth + 1) | merged
            elif key.text in own:
                first = own[key.text].place.line
                found = f"line {first} and line {key.line}"
                here = self.place(place, key.text, key)
                self.problems.append(Problem(here.path, "expected to be set once", found, "", self.file, key.line))
            else:
                own[key.text] = self.value(item, self.place(place, key.text, key), depth + 1)
        return merged | own

    def place(self, parent: Place, key: str | int, node: _Node) -> Place:
        return Place(parent.child(key).path, self.file, node.line)
