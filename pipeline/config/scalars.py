"""What a YAML scalar means: only null, booleans, decimal numbers and text, and `${NAME}` from the environment.

Dates stay text, `1:30` stays text, and so do `yes`, `no`, `on` and `off`: a field that wants a boolean accepts
them, a symbol called NO survives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool | None

_WORDS: Mapping[str, Scalar] = {"": None, "~": None} | {
    form: value
    for word, value in (("null", None), ("true", True), ("false", False))
    for form in (word, word.capitalize(), word.upper())
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)
_VARIABLE = re.compile(r"\$(\$\{)|\$\{([^}]*)(\})?")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.ASCII | re.DOTALL)
_LONGEST_NUMBER = 64


def resolve(text: str) -> Scalar:
    """The value of a plain scalar. Numbers that 64 bits cannot hold and leading zeros (an identifier) stay text."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= _LONGEST_NUMBER:
        if _INTEGER.fullmatch(text):
            number = int(text)
            return number if -(2**63) <= number < 2**63 else text
        if _FLOAT.fullmatch(text):
            return float(text)
    return text


class MissingVariable(ValueError):
    """An environment variable that is not set, or a `${` that is not closed."""


def expand(text: str, environment: Mapping[str, str]) -> str:
    """`text` with `${NAME}` and `${NAME:-default}` replaced; `$${` stands for `${`. Raises `MissingVariable`."""
    if "${" not in text:
        return text

    def replacement(match: re.Match[str]) -> str:
        if match[1]:
            return "${"
        name = _NAME.fullmatch(match[2]) if match[3] else None
        if name is None:
            raise MissingVariable("'${NAME}' or '${NAME:-default}'; write '$${' for the text '${'")
        if name[1] in environment:
            return environment[name[1]]
        if name[2] is None:
            raise MissingVariable(f"the environment variable {name[1]}; set it, or write '${{{name[1]}:-default}}'")
        return name[2]

    return _VARIABLE.sub(replacement, text)
