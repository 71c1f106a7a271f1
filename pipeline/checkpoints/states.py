"""What a logic's state says of itself, so that it is taken back only where it fits; see `Logic.snapshot`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from ..errors import StateMismatch, UnsupportedType
from ..storage import trees

ADVICE = (
    "a checkpoint belongs to the configuration and the version of Penstock that wrote it: resume with these, or begin "
    "the phase anew"
)


class StateOf(msgspec.Struct, frozen=True):
    """Whose a state is: a name, the version of its form, and what must be equal where it is taken back.

    MINE = StateOf("counter", 1, {"every": every})

    def snapshot(self):
        return MINE.seal({"counts": self.counts.copy()})

    def restore(self, state):
        self.counts = fitting("counts", MINE.open(state)["counts"], self.counts)
    """

    name: str
    version: int
    told: Mapping[str, Any] = {}
    """Plain values by name."""

    def seal(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The state with what it is of."""
        return {"of": self.name, "version": self.version, "told": dict(self.told), "state": dict(state)}

    def open(self, sealed: Any) -> dict[str, Any]:
        """The state that was sealed by an equal one. Raises `StateMismatch`."""
        if not isinstance(sealed, dict) or not {"of", "version", "told", "state"} <= sealed.keys():
            raise StateMismatch(f"expected a state of {self.name}, found {_short(sealed)}; {ADVICE}")
        if (sealed["of"], sealed["version"]) != (self.name, self.version):
            raise StateMismatch(
                f"expected a state of {self.name}, version {self.version}, found one of {sealed['of']}, version "
                f"{sealed['version']}; {ADVICE}"
            )
        for name in {**self.told, **sealed["told"]}:
            expected, found = self.told.get(name), sealed["told"].get(name)
            if expected != found:
                raise StateMismatch(
                    f"expected a state of {self.name} with {name} {_short(expected)}, found {_short(found)}; {ADVICE}"
                )
        state: dict[str, Any] = sealed["state"]
        return state


def fitting(what: str, found: Any, like: np.ndarray[Any, Any], *, rows: bool = False) -> np.ndarray[Any, Any]:
    """An array of a state as one's own, that may be written to. Raises `StateMismatch` where it is not like `like`.

    With `rows` the first dimension may be another.
    """
    array = np.array(found)
    shapes = (array.shape[1:], like.shape[1:]) if rows else (array.shape, like.shape)
    if array.dtype != like.dtype or shapes[0] != shapes[1] or array.ndim != like.ndim:
        raise StateMismatch(
            f"expected {what} to be {_short(like.dtype)} {like.shape}, found {_short(array.dtype)} {array.shape}; "
            f"{ADVICE}"
        )
    return array.view(like.dtype)  # equal, but files do not say that records are aligned, and compiled code asks


def packed(value: Any) -> bytes:
    """A state as bytes, so that it may change afterwards and be read in another process. Raises `UnsupportedType`."""
    trees.check(value)
    structs: list[type] = []
    data = trees.encode(value, structs)
    if structs:
        raise UnsupportedType(
            f"expected a state of plain values, found a struct {structs[0].__qualname__}, whose class another process "
            "need not have; give its fields as a dict"
        )
    return data


def unpacked(data: bytes) -> Any:
    """The state again; arrays cannot be written to."""
    return trees.decode(data, ())


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
