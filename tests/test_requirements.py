"""Every requirement of storage has a test that names it, in its name or its docstring, or in that of its file."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
WANTED = {
    **{
        letter: range(1, last + 1) for letter, last in {"C": 9, "M": 6, "S": 8, "F": 5, "A": 7, "R": 7, "E": 22}.items()
    },
    "H": (1, 2, 3, 4, 6, 7),
    "T": (1, 2, 4, 6, 8, 9, 11, 12, 13),
}
"""There is no H-5; T3, T5, T7 and T10 were given up on purpose."""
IN_WORDS = re.compile(r"\b(?:([CMSFHAR])-(\d)|([ET])(\d{1,2}))\b")
IN_NAMES = re.compile(r"(?<=_)([cmsfharet])(\d{1,2})(?=_)")


def named(tree: ast.Module) -> set[tuple[str, int]]:
    """What the tests of a file name."""
    tests = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    tests = [node for node in tests if node.name.startswith("test_")]
    if not tests:
        return set()
    words = "\n".join(ast.get_docstring(node) or "" for node in [tree, *tests])
    found = {(one or other, int(digit or number)) for one, digit, other, number in IN_WORDS.findall(words)}
    for node in tests:
        found |= {(letter.upper(), int(number)) for letter, number in IN_NAMES.findall(node.name)}
    return found


def test_every_requirement_is_named_by_a_test() -> None:
    found: set[tuple[str, int]] = set()
    for path in sorted(TESTS.rglob("test_*.py")):
        found |= named(ast.parse(path.read_text()))
    wanted = [(letter, number) for letter, numbers in WANTED.items() for number in numbers]
    missing = [
        f"{letter}{'' if letter in 'ET' else '-'}{number}" for letter, number in wanted if (letter, number) not in found
    ]
    assert not missing, f"no test names {', '.join(missing)}"
