"""Names of containers, patterns over them, and the names of a group's members."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

NAME = re.compile(r"[A-Za-z0-9_*?][A-Za-z0-9_*?-]{0,99}", re.ASCII)
MEMBER_DIGITS = 4


def is_pattern(name: str) -> bool:
    return "*" in name or "?" in name


@lru_cache(maxsize=4096)
def _expression(pattern: str) -> re.Pattern[str]:
    """`?` does not match a star: `portfolio_?` says nothing about all that `portfolio_*` stands for."""
    parts = {"*": ".*", "?": "[^*]"}
    return re.compile("".join(parts.get(char) or re.escape(char) for char in re.sub(r"\*+", "*", pattern)))


def covers(pattern: str, name: str) -> bool:
    """Whether `pattern` holds for `name`, or, where `name` is a pattern, for everything it stands for."""
    if not is_pattern(pattern):
        return pattern == name
    return _expression(pattern).fullmatch(name) is not None


def specificity(pattern: str) -> int:
    """How many characters are literal."""
    return len(pattern) - pattern.count("*") - pattern.count("?")


@dataclass(frozen=True, slots=True)
class Group:
    """A declared container with one star, and how many members stand for it."""

    pattern: str
    count: int

    @property
    def digits(self) -> int:
        return max(MEMBER_DIGITS, len(str(self.count - 1)))

    def member(self, index: int) -> str:
        """The name of the member at `index` of the parameter space: `portfolio_0042`."""
        return self.pattern.replace("*", f"{index:0{self.digits}d}")

    def index(self, name: str) -> int | None:
        """The inverse of `member`; None where no member has this name."""
        before, _, after = self.pattern.partition("*")
        number = name[len(before) : len(name) - len(after)]
        if not (len(number) == self.digits and number.isascii() and number.isdigit() and int(number) < self.count):
            return None
        return int(number) if self.member(int(number)) == name else None
