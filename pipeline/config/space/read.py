"""Reads `parameter_space:`, one block or a list of them, and tells every problem with its line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pipeline.errors import Problem
from pipeline.stage import Recipe

from ..convert import Converter
from ..leaf import suggestion
from ..located import BROKEN, Located, Place, plain, shown, walk
from .axes import Distribution, Given, Range, Spaced
from .block import Block
from .grid import MAX_LOOKED_THROUGH, GridTooLarge
from .sample import Sample, TooFew
from .space import ParameterSpace
from .where import EXAMPLE, Constraint, ConstraintError, parse

RESERVED = ("where", "sample")
"""Keys of a block that are no parameters."""
AXIS_KEYS = {"type", *Range.__struct_fields__, *Spaced.__struct_fields__, *Distribution.__struct_fields__}
"""Keys of which a mapping under a parameter has one at least."""
AXIS = "a list, a range such as {start: 5, stop: 50, step: 5}, or a distribution such as {low: 0.1, high: 0.9}"


def read_space(written: Located | None, seed: int, limit: int, converter: Converter) -> ParameterSpace:
    """The space; where there were problems, which are the converter's then, one without axes that knows their names.

    `seed` is the run's, `limit` the most combinations that may be sampled.
    """
    if written is None or written.value is None or written.value is BROKEN:
        return ParameterSpace()
    before = len(converter.problems)
    several = isinstance(written.value, list)
    items: list[Located] = written.value if several else [written]
    read = [_Reader(item, number, converter).block(seed, limit) for number, item in enumerate(items) if _is_block(item)]
    for item in items:
        if not _is_block(item) and item.value is not BROKEN:
            expected = "a mapping of parameters to values" + ("" if several else ", or a list of such mappings")
            found = shown(item.value, item.place.path)
            converter.problems.append(item.problem(f"expected {expected}", found=found))
    if len(converter.problems) > before:
        names = {key for item in items for key, _ in item}
        chosen = [{key: made for key, made in item if key not in RESERVED and _is_choice(made)} for item in items]
        blocks = [Block(choices=each, number=number) for number, each in enumerate(chosen)]
        return ParameterSpace(blocks=blocks, refused=frozenset(names.difference(RESERVED)))
    return ParameterSpace(blocks=[block for block in read if block is not None])


def _is_block(item: Located) -> bool:
    return isinstance(item.value, dict)


class _Reader:
    """Reads one block."""

    def __init__(self, source: Located, number: int, converter: Converter) -> None:
        self.source, self.number, self.converter = source, number, converter
        self.problems: list[Problem] = converter.problems

    def block(self, seed: int, limit: int) -> Block | None:
        """The block, or None where it has problems."""
        before = len(self.problems)
        axes: dict[str, Given] = {}
        choices: dict[str, Located] = {}
        for key, item in self.source:
            if key in RESERVED or item.value is BROKEN:
                continue
            if isinstance(item.value, dict) and not {*item.value} & AXIS_KEYS and (meant := reserved_like(key)):
                self.problems.append(item.problem("no parameter takes this", suggestion=meant))
                continue
            if _is_choice(item):
                choices[key] = item
            elif (axis := self.axis(item)) is not None:
                axes[key] = axis
        where = self.where([*axes])
        sample = self.sample()
        if len(self.problems) > before:
            return None
        own = seed if sample is None or sample.seed is None else sample.seed
        made = Block(
            axes, where=where, sample=sample, seed=(own, self.number), choices=choices, number=self.number,
            path=self.source.place.path,
        )  # fmt: skip
        self.examine(made, limit)
        return made

    def axis(self, item: Located) -> Given | None:
        """The values of one parameter."""
        if isinstance(item.value, Range | Spaced | Distribution):
            return item.value
        if any(part.value is BROKEN for part in walk(item)):
            return None
        if isinstance(item.value, list):
            if not item.value:
                self.problems.append(item.problem("expected at least one value", found="[]"))
                return None
            values: list[Any] = plain(item)
            return values
        if isinstance(item.value, dict):
            return self.converter.struct(item, _kind(item.value))
        hint = f"write [{item.value}]?" if isinstance(item.value, int | float) else ""
        found = shown(item.value, item.place.path)
        self.problems.append(item.problem(f"expected {AXIS}", found=found, suggestion=hint))
        return None

    def where(self, known: list[str]) -> list[Constraint]:
        """The constraints, all of whose names are parameters."""
        written = self.source.get("where")
        if written is None or written.value is None or written.value is BROKEN:
            return []
        made = []
        for item in written.value if isinstance(written.value, list) else [written]:
            if not isinstance(item.value, str):
                if item.value is not BROKEN:
                    found = shown(item.value, item.place.path)
                    self.problems.append(item.problem("expected a constraint", found=found, suggestion=EXAMPLE))
                continue
            try:
                constraint = parse(item.value)
            except ConstraintError as error:
                self.problems.append(item.problem(error.message, found=error.found, suggestion=error.suggestion))
                continue
            for name in constraint.names:
                if name not in known and name not in (self.source.value or {}):
                    hint = suggestion(name, known) or f"known: {', '.join(known)}"
                    self.problems.append(item.problem(f"no parameter is called '{name}'", suggestion=hint))
                elif name not in known and _is_choice(self.source.value[name]):
                    self.problems.append(item.problem(f"'{name}' is the same for the whole block", suggestion=EXAMPLE))
            made.append(constraint)
        return made

    def sample(self) -> Sample | None:
        written = self.source.get("sample")
        if written is None or written.value is None or written.value is BROKEN:
            return None
        if isinstance(written.value, int) and not isinstance(written.value, bool):
            written = Located({"size": written}, written.place)  # `sample: 200`
        return self.converter.struct(written, Sample)

    def examine(self, block: Block, limit: int) -> None:
        """Whether it can be counted, and leaves anything."""
        here = self.source.get("where") or self.source.get("sample") or self.source
        if block.sample is None and block.continuous:
            name = block.continuous[0]
            axis = self.source.get(name) or self.source
            hint = "add `sample: {size: 100}` to the block, or give `{start: ..., stop: ..., num: 10}`"
            self.problems.append(axis.problem("a distribution has no grid to go through", suggestion=hint))
            return
        if block.sample is not None and block.size > limit:
            hint = "make it smaller, or raise `max_portfolios`"
            expected = f"expected a sample of at most {limit:,} combinations (`max_portfolios`)"
            sample = self.source.get("sample") or here
            self.problems.append(sample.problem(expected, found=f"{block.size:,}", suggestion=hint))
            return
        try:
            if block.sample is None:
                if block.size == 0:
                    found = f"none of {block.said_whole()}"
                    self.problems.append(here.problem("expected `where` to leave a combination", found=found))
            else:
                block.drawn  # noqa: B018 - once, and kept
        except ConstraintError as error:
            self.problems.append(here.problem(error.message, found=error.found, suggestion=error.suggestion))
        except GridTooLarge as error:
            expected = f"expected constraints that tie at most {MAX_LOOKED_THROUGH:,} combinations"
            found = f"{error.size:,} of {', '.join(error.names)}, before constraints"
            hint = "add `sample: {size: 1000}`, or widen a step"
            self.problems.append(here.problem(expected, found=found, suggestion=hint))
        except TooFew as error:
            self.problems.append(self.too_few(block, error))

    def too_few(self, block: Block, error: TooFew) -> Problem:
        here = self.source.get("sample") or self.source
        assert block.sample is not None
        if error.known:
            left = " that satisfy `where`" if block.where else ""
            found = f"{error.found:,} of {block.said_whole()}{left}"
            hint = "leave `sample` out to run them all, or make its size smaller"
        else:
            found = f"{error.found:,} after many draws"
            hint = "make the size smaller, the ranges wider, or loosen `where`"
        return here.problem(f"expected {block.sample.size:,} combinations to sample", found=found, suggestion=hint)


def reserved_like(key: str) -> str:
    """`did you mean 'sample'?`, where a key looks like a misspelt one that is no parameter; or nothing."""
    near = difflib.get_close_matches(key.lower(), RESERVED, n=1, cutoff=0.75)
    return f"did you mean '{near[0]}'?" if near else ""


def _is_choice(item: Located) -> bool:
    """Whether it names a recipe for the whole block, such as `strategy: {type: rsi}`, rather than values."""
    value = item.value
    return isinstance(value, str | Recipe) or (isinstance(value, dict) and "type" in value)


def _kind(written: Mapping[str, Any]) -> type[Range] | type[Spaced] | type[Distribution]:
    if "low" in written or "high" in written:
        return Distribution
    return Spaced if "num" in written or "scale" in written else Range


def place_of(source: Located, block: Block, name: str) -> Place | None:
    """Where a parameter or a choice of a block was written; None where it came from elsewhere."""
    item: Located | None = source.get("parameter_space")
    if item is not None and isinstance(item.value, list):
        item = item.value[block.number] if block.number < len(item.value) else None
    found = item.get(name) if item is not None else None
    return found.place if found is not None else None
