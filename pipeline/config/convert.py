"""Makes frozen structs of located values and collects every problem on the way, not only the first."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect as types

from pipeline.errors import Problem
from pipeline.registry import Registry, UnknownType
from pipeline.stage import Recipe

from .describe import describe
from .leaf import Mismatch, check, convert_leaf, suggestion
from .located import BROKEN, Located, is_secret, plain, shown

S = TypeVar("S", bound=msgspec.Struct)
_LISTS: dict[type[types.Type], Callable[[list[Any]], Any]] = {
    types.ListType: list,
    types.VarTupleType: tuple,
    types.SetType: set,
    types.FrozenSetType: frozenset,
}


class _Invalid:
    """What a value becomes that had a problem."""


INVALID = _Invalid()


@lru_cache(maxsize=1024)
def fields_of(cls: type[msgspec.Struct]) -> Mapping[str, types.Field]:
    """The fields of a struct by the name they have in a file. Raises TypeError or NameError on odd annotations."""
    info = types.type_info(cls)
    assert isinstance(info, types.StructType)
    return {item.encode_name: item for item in info.fields}


@dataclass
class Converter:
    """Converts against a registry; `problems` grows."""

    registry: Registry
    root: Path | None
    problems: list[Problem] = field(default_factory=list)
    placeholders: Mapping[str, Any] = field(default_factory=dict)
    """Values of required fields that a parameter space will supply, by field name."""
    used_placeholders: bool = False
    excused: frozenset[str] = frozenset()
    """Required fields that nobody need miss: the parameter that should fill them was refused."""

    def struct(self, source: Located, cls: type[S], ignored: frozenset[str] = frozenset()) -> S | None:
        """`source`, a mapping, as `cls`; None where there was a problem. Keys in `ignored` are somebody else's."""
        made = self._struct(source, cls, ignored)
        return made if isinstance(made, cls) else None

    def check(self, source: Located, kind: types.Type) -> None:
        """Find the problems of `source` as `kind`."""
        self._value(source, kind)

    def stage_class(self, named: Located, family: type[Recipe]) -> type[Recipe] | None:
        """The recipe that `type:` names."""
        if named.value is BROKEN:
            return None
        if not isinstance(named.value, str):
            self._mismatch(named, f"the name of a {family.__name__.lower()}", "")
            return None
        try:
            return self.registry.find(named.value, family, self.root)
        except UnknownType as unknown:
            self.problems.append(named.problem(str(unknown)))
            return None

    def _struct(self, source: Located, cls: type[msgspec.Struct], ignored: frozenset[str]) -> Any:
        if isinstance(source.value, cls):
            return source.value
        if source.value is BROKEN:
            return INVALID
        if source.value is None:
            # `data_flow:` with nothing beneath it.
            source = Located({}, source.place)
        if not isinstance(source.value, dict):
            return self._mismatch(source, describe(types.type_info(cls)), "")
        try:
            known = fields_of(cls)
        except (TypeError, NameError) as error:
            return self._report(source.problem(f"cannot read the fields of {cls.__name__}: {error}"))
        valid = True
        values: dict[str, Any] = {}
        for key, item in source:
            if key in ignored:
                continue
            if key not in known:
                self._unknown(source, item, key, cls, [*known, *ignored])
                valid = False
                continue
            values[known[key].name] = value = self._value(item, known[key].type)
            valid = valid and value is not INVALID
        for key, wanted in known.items():
            if wanted.required and wanted.name not in values and key not in source.value:
                if wanted.name in self.placeholders:
                    values[wanted.name] = self.placeholders[wanted.name]
                    self.used_placeholders = True
                elif wanted.name in self.excused:
                    valid = False
                else:
                    self._missing(source, key, wanted.type)
                    valid = False
        if not valid:
            return INVALID
        try:
            return cls(**values)
        except (ValueError, TypeError) as error:
            refusal = str(error) or f"{cls.__name__} refuses these settings"
            for secret in (str(item.value) for key, item in source if is_secret(key) and item.value):
                refusal = refusal.replace(secret, "***")
            return self._report(source.problem(refusal))

    def _value(self, source: Located, kind: types.Type) -> Any:
        if source.value is BROKEN:
            return INVALID
        match kind:
            case types.Metadata(type=inner, extra=extra):
                return self._checked(source, inner, extra or {}, describe(kind))
            case types.UnionType(types=options):
                return self._union(source, options)
            case types.AnyType() | types.RawType():
                return plain(source)
            case types.StructType(cls=cls) if issubclass(cls, Recipe):
                return self._recipe(source, cls)
            case types.StructType(cls=cls):
                return self._struct(source, cls, frozenset())
            case types.ListType() | types.VarTupleType() | types.SetType() | types.FrozenSetType():
                return self._list(source, kind)
            case types.TupleType(item_types=items):
                if not isinstance(source.value, list) or len(source.value) != len(items):
                    return self._mismatch(source, describe(kind), "")
                made = [self._value(item, of) for item, of in zip(source.value, items, strict=True)]
                return INVALID if any(item is INVALID for item in made) else tuple(made)
            case types.DictType(key_type=key_type, value_type=value_type):
                return self._dict(source, key_type, value_type)
        try:
            return convert_leaf(source.value, kind)
        except Mismatch as mismatch:
            return self._mismatch(source, describe(kind), str(mismatch))

    def _checked(self, source: Located, inner: types.Type, extra: Mapping[str, Any], expected: str) -> Any:
        """A field annotated with `Meta(extra={"expected": ..., "check": ..., "suggest": ...})`."""
        if "expected" not in extra:
            return self._value(source, inner)
        try:
            value = convert_leaf(source.value, inner)
            check(value, extra)
            return value
        except Mismatch as mismatch:
            suggest = extra.get("suggest")
            return self._mismatch(source, expected, suggest(source.value) if suggest else str(mismatch))

    def _recipe(self, source: Located, family: type[Recipe]) -> Any:
        """A field that any recipe of a family may fill, named by `type:`, or by a bare name when defaults will do."""
        if isinstance(source.value, family):
            return source.value
        if isinstance(source.value, str):
            source = Located({"type": source}, source.place)
        named = source.get("type")
        if named is not None:
            cls = self.stage_class(named, family)
            return INVALID if cls is None else self._struct(source, cls, frozenset({"type"}))
        names = self.registry.names(family)
        if isinstance(source.value, dict) and any(self.registry.recipes[name] is not family for name in names):
            expected = f"expected 'type', the name of a {family.__name__.lower()}"
            return self._report(source.problem(expected, suggestion=f"known: {', '.join(names)}", key="type"))
        return self._struct(source, family, frozenset())

    def _union(self, source: Located, options: tuple[types.Type, ...]) -> Any:
        if source.value is None and any(isinstance(option, types.NoneType) for option in options):
            return None
        candidates = [option for option in options if not isinstance(option, types.NoneType)]
        # What the value already is comes first: 1 is a whole number before it is a fraction.
        candidates.sort(key=lambda option: not _looks_like(source.value, option))
        complaints: list[list[Problem]] = []
        for option in candidates:
            attempt = Converter(self.registry, self.root, [], self.placeholders, excused=self.excused)
            value = attempt._value(source, option)
            self.used_placeholders = self.used_placeholders or attempt.used_placeholders
            if not attempt.problems:
                return value
            complaints.append(attempt.problems)
        shaped = isinstance(source.value, dict | list) and _looks_like(source.value, candidates[0])
        if len(candidates) == 1 or shaped:
            self.problems.extend(complaints[0])
            return INVALID
        hints = [problem.suggestion for complaint in complaints for problem in complaint if problem.suggestion]
        return self._mismatch(source, describe(types.UnionType(options)), hints[0] if hints else "")

    def _list(self, source: Located, kind: Any) -> Any:
        if not isinstance(source.value, list):
            scalar = isinstance(source.value, str | int | float)
            return self._mismatch(source, "a list", f"write [{source.value}]?" if scalar else "")
        shortest, longest = kind.min_length or 0, kind.max_length
        if len(source.value) < shortest or (longest is not None and len(source.value) > longest):
            limit = f"at least {shortest}" if len(source.value) < shortest else f"at most {longest}"
            self.problems.append(source.problem(f"expected {limit} items", found=str(len(source.value))))
            return INVALID
        made = [self._value(item, kind.item_type) for item in source.value]
        return INVALID if any(item is INVALID for item in made) else _LISTS[type(kind)](made)

    def _dict(self, source: Located, key_type: types.Type, value_type: types.Type) -> Any:
        if not isinstance(source.value, dict):
            return self._mismatch(source, "a mapping", "")
        made: dict[Any, Any] = {}
        for key, item in source:
            made_key = key if isinstance(key_type, types.AnyType) else self._value(Located(key, item.place), key_type)
            made_value = self._value(item, value_type)
            if made_key is INVALID or made_value is INVALID:
                made[INVALID] = INVALID
            else:
                made[made_key] = made_value
        return INVALID if INVALID in made else made

    def _unknown(self, source: Located, item: Located, key: str, cls: type, known: list[str]) -> None:
        hint = suggestion(key, known) or (f"known: {', '.join(known)}" if known else "")
        expected = f"{cls.__name__} has no setting '{key}'" if issubclass(cls, Recipe) else "unknown setting"
        self.problems.append(item.problem(expected, suggestion=hint))

    def _missing(self, source: Located, key: str, kind: types.Type) -> None:
        # A misspelt parameter leaves the field it was meant for without a value.
        misspelt = difflib.get_close_matches(key, list(self.placeholders), n=1)
        hint = f"did you mean '{key}' by '{misspelt[0]}' in parameter_space?" if misspelt else ""
        self.problems.append(source.problem(f"expected {describe(kind)}", found="nothing", suggestion=hint, key=key))

    def _mismatch(self, source: Located, expected: str, hint: str) -> _Invalid:
        found = shown(source.value, source.place.path)
        # A hint may repeat the value.
        hint = "" if is_secret(source.place.path) else hint
        return self._report(source.problem(f"expected {expected}", found=found, suggestion=hint))

    def _report(self, problem: Problem) -> _Invalid:
        self.problems.append(problem)
        return INVALID


def _looks_like(value: Any, kind: types.Type) -> bool:
    """Whether the value has the shape of the type, right or wrong inside."""
    match kind:
        case types.Metadata(type=inner):
            return _looks_like(value, inner)
        case types.StructType(cls=cls):
            return isinstance(value, dict | cls)
        case types.DictType():
            return isinstance(value, dict)
        case types.ListType() | types.VarTupleType() | types.SetType() | types.FrozenSetType() | types.TupleType():
            return isinstance(value, list)
        case types.BoolType():
            return isinstance(value, bool)
        case types.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case types.FloatType():
            return isinstance(value, float)
        case types.StrType() | types.LiteralType():
            return isinstance(value, str)
    return False
