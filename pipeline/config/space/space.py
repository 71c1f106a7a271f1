"""The parameter space: blocks of combinations, numbered through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, overload

from .axes import Given
from .block import Block


class ParameterSpace(Sequence[Mapping[str, Any]]):
    """Combinations of one block after the other. Without axes there is one, empty, combination.

    `bool(space)` says whether anything varies at all.
    """

    def __init__(
        self,
        axes: Mapping[str, Sequence[Any] | Given] | None = None,
        *,
        blocks: Sequence[Block] = (),
        refused: frozenset[str] = frozenset(),
    ) -> None:
        self.blocks = tuple(blocks) or (Block(axes),)
        self.refused = refused
        """Parameters that were written and had problems."""

    @cached_property
    def size(self) -> int:
        """As `len()`, of any size."""
        return sum(block.size for block in self.blocks)

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters of all blocks, each once."""
        return tuple(dict.fromkeys(chain.from_iterable(block.axes for block in self.blocks)))

    def find(self, index: int) -> tuple[Block, int]:
        """The block a combination belongs to, and its place there. Raises IndexError."""
        if not -self.size <= index < self.size:
            raise IndexError(index)
        index %= self.size
        for block in self.blocks:
            if index < block.size:
                return block, index
            index -= block.size
        raise AssertionError("the blocks' sizes add up")

    def __bool__(self) -> bool:
        return len(self.blocks) > 1 or any(block.axes or block.choices for block in self.blocks)

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(self.size))]
        block, place = self.find(index)
        return block[place]

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return chain.from_iterable(self.blocks)
