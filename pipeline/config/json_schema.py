"""The JSON Schema of a whole configuration for editors, made of the very structs that settings are checked against."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any

import msgspec
from msgspec import inspect as types

from pipeline.registry import Registry
from pipeline.stage import Recipe, Stage

from .canonical import canonical
from .convert import fields_of
from .patterns import is_pattern
from .schema import CONTAINER_KEYS, ConfigFile, ContainerConfig, InputConfig
from .space import Distribution, Range, Sample, Spaced

DRAFT = "http://json-schema.org/draft-07/schema#"
"""The version editors understand best."""
VARIABLE = r"\$\{"
"""Where a number or a truth value may stand, so may `${NAME}` from the environment."""
NUMBER = rf"^(.*{VARIABLE}.*|[-+]?[0-9][0-9_]*(\.[0-9]*)?([eE][-+]?[0-9]+)?)$"
"""`100_000` is a number here and a text for most readers of YAML."""
TRUTH = rf"^(.*{VARIABLE}.*|[Yy]es|[Nn]o|[Oo]n|[Oo]ff|YES|NO|ON|OFF)$"
OWN_CLASS = {"type": "string", "pattern": ":", "description": "A class of yours: module:Class or ./file.py:Class"}
_TEXTS = (types.DateTimeType, types.DateType, types.TimeType, types.TimeDeltaType, types.UUIDType, types.BytesType)
_LISTS = (types.ListType, types.VarTupleType, types.SetType, types.FrozenSetType)

Schema = dict[str, Any]


class NotWritten(Exception):
    """A field that only Python can fill."""


def json_schema(registry: Registry) -> Schema:
    """The schema, draft 7, with every recipe and topology of the registry. Everything is plain data, in a fixed order.

    It knows names, types, choices, ranges, defaults and documentation; what only a stage itself can refuse, and what
    goes on between settings, `penstock check` tells.
    """
    return _Writer(registry).whole()


class _Writer:
    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.definitions: dict[str, Schema] = {}

    def whole(self) -> Schema:
        top = self.struct(ConfigFile)
        top["properties"]["containers"] = self.containers(top["properties"]["containers"])
        space = self.space()
        top["properties"]["parameter_space"].pop("anyOf", None)
        top["properties"]["parameter_space"]["anyOf"] = [space, {"type": "array", "items": space}]
        name = top["properties"]["topology"]
        name["anyOf"] = [{"enum": sorted(self.registry.topologies)}, {"type": "null"}]
        return {
            "$schema": DRAFT,
            "title": "Penstock configuration",
            **top,
            "type": "object",
            "definitions": dict(sorted(self.definitions.items())),
        }

    # -- containers ----------------------------------------------------------------------------------------------

    def containers(self, described: Schema) -> Schema:
        """Entries by name: those of ready-made topologies know their stage, all others say it or may be any."""
        named: dict[str, Schema] = {}
        patterns: dict[str, Schema] = {}
        for topology in sorted(self.registry.topologies):
            for name, guess in self.registry.topologies[topology]({}).items():
                place, key = (patterns, _regex(name)) if is_pattern(name) else (named, name)
                place.setdefault(key, self.container(str(guess.get("type"))))
        return {
            "description": described.get("description", ""),
            "type": ["object", "null"],
            "properties": named,
            "patternProperties": patterns,
            "additionalProperties": self.container(None),
        }

    def container(self, default: str | None) -> Schema:
        """One entry of `containers:`; without a `type` it has the fields of `default`'s stage, or of any."""
        common = {key: item for key, item in self.properties(ContainerConfig).items() if key in CONTAINER_KEYS}
        one = {"anyOf": [{"type": "string"}, self.reference(InputConfig)]}
        common["inputs"] = {**common["inputs"], "anyOf": [one, {"type": "array", "items": one}]}
        for key in ("type", "items"):
            common["inputs"].pop(key, None)
        return self.chosen(Stage, default, common)

    def chosen(self, family: type[Recipe], default: str | None, common: Mapping[str, Schema]) -> Schema:
        """A mapping whose `type` names a recipe of a family: each has the fields of its own."""
        names = self.registry.names(family)
        kinds = [self.registry.recipes[name] for name in names]
        branches = []
        for name, kind in zip(names, kinds, strict=True):
            asked = {"required": ["type"], "properties": {"type": {"const": name}}}
            branches.append({"if": asked, "then": self.closed(kind, common)})
        fallback = self.registry.recipes.get(default or "")
        without: Schema = {"not": {"required": ["type"]}}
        if fallback is not None and issubclass(fallback, family) and not self._is_feed(fallback):
            branches.append({"if": without, "then": self.closed(fallback, common)})
        else:
            feeds = [kind for kind in kinds if self._is_feed(kind)] if fallback is not None else kinds
            branches.append({"if": without, "then": self.any_of(feeds, common)})
        told = [{"const": name, "description": _doc(kind)} for name, kind in zip(names, kinds, strict=True)]
        kind_of = {**common.get("type", {}), "anyOf": [*told, OWN_CLASS]}
        kind_of.pop("type", None)
        return {"type": ["object", "null"], "properties": {**common, "type": kind_of}, "allOf": branches}

    def closed(self, kind: type[Recipe], common: Mapping[str, Schema]) -> Schema:
        """Nothing but the fields of one recipe and what is common to all."""
        allowed = dict.fromkeys(("type", *common), True)
        return {"properties": {**allowed, **self.shared(kind)}, "additionalProperties": False}

    def any_of(self, kinds: Iterable[type[Recipe]], common: Mapping[str, Schema]) -> Schema:
        """The fields of any of some recipes; where two mean different things by a name, either."""
        meanings: dict[str, list[Schema]] = {}
        for kind in kinds:
            for key, schema in self.shared(kind).items():
                if schema not in meanings.setdefault(key, []):
                    meanings[key].append(schema)
        merged = {key: found[0] if len(found) == 1 else {"anyOf": found} for key, found in meanings.items()}
        allowed = dict.fromkeys(("type", *common), True)
        return {"properties": {**allowed, **merged}, "additionalProperties": False}

    def shared(self, kind: type[Recipe]) -> dict[str, Schema]:
        """References to the fields of a recipe, which stand among the definitions once."""
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name not in self.definitions:
            self.definitions[name] = {}  # a recipe may hold others of its kind
            self.definitions[name] = {"description": _doc(kind), "properties": self.properties(kind)}
        return {key: {"$ref": f"#/definitions/{name}/properties/{key}"} for key in self.properties_known(kind)}

    def properties_known(self, kind: type[Recipe]) -> list[str]:
        return [key for key, item in fields_of(kind).items() if not _only_python(item.type)]

    @staticmethod
    def _is_feed(kind: type[Recipe]) -> bool:
        return issubclass(kind, Stage) and kind.is_feed is True

    def space(self) -> Schema:
        """A block of `parameter_space:`: values by parameter, the choice of a recipe, constraints, a sample."""
        axes = [{"type": "array", "minItems": 1}, *(self.reference(cls) for cls in (Range, Spaced, Distribution))]
        choice = {"type": "object", "required": ["type"]}
        where = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]}
        sample = {"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, self.reference(Sample), {"type": "null"}]}
        return {
            "type": ["object", "null"],
            "properties": {
                "where": {"description": "Constraints, such as fast < slow: other combinations are left out.", **where},
                "sample": {"description": _doc(Sample), **sample},
            },
            "additionalProperties": {"anyOf": [*axes, {"type": "string", "minLength": 1}, choice]},
        }

    # -- structs and types ---------------------------------------------------------------------------------------

    def reference(self, cls: type[msgspec.Struct]) -> Schema:
        name = f"{cls.__module__}.{cls.__qualname__}"
        if name not in self.definitions:
            self.definitions[name] = {}
            self.definitions[name] = self.struct(cls)
        return {"$ref": f"#/definitions/{name}"}

    def struct(self, cls: type[msgspec.Struct]) -> Schema:
        required = [key for key, item in fields_of(cls).items() if item.required]
        made: Schema = {"description": _doc(cls), "type": ["object", "null"], "properties": self.properties(cls)}
        if required:
            made |= {"type": "object", "required": required}
        return made | {"additionalProperties": False}

    def properties(self, cls: type[msgspec.Struct]) -> dict[str, Schema]:
        documented = _field_docs(cls)
        made: dict[str, Schema] = {}
        for key, item in fields_of(cls).items():
            try:
                schema = self.of(item.type)
            except NotWritten:
                continue
            if item.name in documented:
                schema = _beside(schema, description=documented[item.name])
            if item.default is not msgspec.NODEFAULT or item.default_factory is not msgspec.NODEFAULT:
                value = item.default if item.default is not msgspec.NODEFAULT else item.default_factory()
                schema = _beside(schema, default=canonical(value, self.registry))
            made[key] = schema
        return made

    def of(self, kind: types.Type) -> Schema:
        """The schema of one type. Raises `NotWritten` for what has no form in YAML."""
        match kind:
            case types.Metadata(type=inner, extra=extra, extra_json_schema=further):
                made = self.of(inner)
                if extra and "expected" in extra:
                    made = {"description": f"Expected: {extra['expected']}.", **made}
                return {**made, **(further or {})}
            case types.UnionType(types=options):
                return {"anyOf": [self.of(option) for option in options]}
            case types.AnyType() | types.RawType():
                return {}
            case types.StructType(cls=cls) if issubclass(cls, Recipe):
                return self.recipe(cls)
            case types.StructType(cls=cls):
                return self.reference(cls)
            case types.TupleType(item_types=items):
                exact = {"minItems": len(items), "maxItems": len(items)}
                return {"type": "array", "items": [self.of(item) for item in items], **exact}
            case types.DictType(value_type=value_type):
                return {"type": "object", "additionalProperties": self.of(value_type)}
            case types.LiteralType(values=values):
                return {"enum": list(values)}
            case types.EnumType(cls=cls):
                return {"enum": [member.value for member in cls]}
            case types.NoneType():
                return {"type": "null"}
            case types.BoolType():
                return {"type": ["boolean", "string"], "pattern": TRUTH}
            case types.IntType() | types.FloatType():
                whole = "integer" if isinstance(kind, types.IntType) else "number"
                return {"type": [whole, "string"], "pattern": NUMBER, **_limits(kind)}
            case types.DecimalType():
                return {"type": ["number", "string"]}
            case types.StrType(min_length=shortest, max_length=longest, pattern=pattern):
                told = {"minLength": shortest, "maxLength": longest, "pattern": pattern}
                return {"type": "string", **{key: value for key, value in told.items() if value is not None}}
            case types.CustomType(cls=cls) if cls.__name__.endswith("Path"):
                return {"type": "string"}
        if isinstance(kind, _LISTS):
            told = {"minItems": kind.min_length, "maxItems": kind.max_length}
            bounds = {key: value for key, value in told.items() if value is not None}
            return {"type": "array", "items": self.of(kind.item_type), **bounds}
        if isinstance(kind, _TEXTS):
            return {"type": "string"}
        raise NotWritten(kind)

    def recipe(self, family: type[Recipe]) -> Schema:
        """A field that any recipe of a family may fill: by a name, or a mapping with its fields."""
        names = [name for name in self.registry.names(family) if self.registry.recipes[name] is not family]
        if not names:
            return self.reference(family)
        key = f"{family.__module__}.{family.__qualname__}"
        if key not in self.definitions:
            self.definitions[key] = {}
            options = [{"enum": names}, OWN_CLASS, self.chosen(family, None, {})]
            self.definitions[key] = {"description": _doc(family), "anyOf": options}
        return {"$ref": f"#/definitions/{key}"}


def _beside(schema: Schema, **words: Any) -> Schema:
    """Words about a field; what stands beside a reference is not looked at in this draft."""
    if "$ref" in schema:
        return {"allOf": [schema], **words}
    return {**schema, **words}


def _only_python(kind: types.Type) -> bool:
    match kind:
        case types.Metadata(type=inner):
            return _only_python(inner)
        case types.UnionType(types=options):
            return any(_only_python(option) for option in options)
        case types.CustomType(cls=cls):
            return not cls.__name__.endswith("Path")
    return False


def _limits(kind: types.IntType | types.FloatType) -> Schema:
    told = {
        "exclusiveMinimum": kind.gt,
        "minimum": kind.ge,
        "exclusiveMaximum": kind.lt,
        "maximum": kind.le,
        "multipleOf": kind.multiple_of,
    }
    return {key: value for key, value in told.items() if value is not None}


def _regex(pattern: str) -> str:
    return "^" + "".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in pattern) + "$"


def _doc(cls: type) -> str:
    """The first paragraph of a class's documentation."""
    return " ".join(inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].split())


@lru_cache(maxsize=256)
def _field_docs(cls: type) -> Mapping[str, str]:
    """Field -> the text beneath it in the source, of the class and its bases; empty where the source is not there."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not issubclass(base, msgspec.Struct) or base is msgspec.Struct:
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        except (OSError, TypeError, SyntaxError, IndexError):
            continue
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, after in pairwise(statements):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
                text = after.value.value if isinstance(after.value, ast.Constant) else None
                if isinstance(text, str):
                    found[field.target.id] = " ".join(text.split())
    return found
