"""Constraints between parameters, such as `fast < slow`: a small language that is read, never executed."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

MAX_TEXT = 1_000
"""Characters of one constraint."""
EXAMPLE = "write a comparison such as `fast < slow` or `slow >= 2 * fast`"

Column: TypeAlias = np.ndarray[Any, Any]
"""Values of one parameter or one part of a constraint: float64, bool, or objects where some are no numbers."""

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.FloorDiv: operator.floordiv,
}
_WORDS = {"true": True, "false": False, "null": None}
"""What YAML calls the constants of Python."""
_REFUSED: dict[type[ast.AST], tuple[str, str]] = {
    ast.Call: ("a call", "compare parameters only"),
    ast.Pow: ("a power", "multiply instead"),
    ast.BitAnd: ("'&'", "write `and`"),
    ast.BitOr: ("'|'", "write `or`"),
    ast.Invert: ("'~'", "write `not`"),
    ast.In: ("'in'", "write `a == 1 or a == 2`"),
    ast.NotIn: ("'not in'", "write `a != 1 and a != 2`"),
    ast.Is: ("'is'", "write `==`"),
    ast.IsNot: ("'is not'", "write `!=`"),
    ast.IfExp: ("a conditional", "write `(a and b) or (not a and c)`"),
}


class ConstraintError(ValueError):
    """A constraint that cannot be read, or that has no answer for some values."""

    def __init__(self, message: str, found: str = "", suggestion: str = "") -> None:
        super().__init__(message)
        self.message, self.found, self.suggestion = message, found, suggestion


@dataclass(frozen=True, eq=False)
class Constraint:
    """A condition on a combination; made by `parse`."""

    text: str
    names: tuple[str, ...]
    """Parameters it speaks of, in the order of their names."""
    _tree: ast.expr

    def holds(self, columns: Mapping[str, Column], rows: int) -> Column:
        """For each of `rows` combinations whether it holds, bool; `columns` are made by `column`.

        Numbers are compared as float64. Raises `ConstraintError` where values cannot be compared or divided.
        """
        return _truth(_value(self._tree, columns, rows))


def parse(text: str) -> Constraint:
    """Read a constraint: names, numbers, texts, comparisons (also `1 < a < b`), and, or, not, + - * / % //, brackets.

    Raises `ConstraintError` for anything else.
    """
    if len(text) > MAX_TEXT:
        raise ConstraintError(f"expected a constraint of at most {MAX_TEXT} characters", f"{len(text)}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        single = "=" in text.replace("==", "").replace("<=", "").replace(">=", "").replace("!=", "")
        hint = "write `==` for equality" if single else EXAMPLE
        raise ConstraintError("expected a constraint", repr(text), hint) from None
    names: set[str] = set()
    _examine(tree, names)
    if not names or not (
        isinstance(tree, ast.Compare | ast.BoolOp) or (isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not))
    ):
        raise ConstraintError("expected a comparison of parameters", repr(text), EXAMPLE)
    return Constraint(text, tuple(sorted(names)), tree)


def column(values: Sequence[Any]) -> Column:
    """Values as a constraint looks at them: float64 where all are numbers, else objects."""
    if all(isinstance(value, int | float) for value in values):
        return np.array([float(value) for value in values], np.float64)
    made = np.empty(len(values), object)
    for place, value in enumerate(values):
        made[place] = value
    return made


def _examine(node: ast.AST, names: set[str]) -> None:
    """Gather the names; raise for whatever is no part of the language."""
    match node:
        case ast.BoolOp(values=parts):
            inner: Sequence[ast.AST] = parts
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd(), operand=operand):
            inner = [operand]
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARISONS for op in ops):
            inner = [left, *others]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            inner = [left, right]
        case ast.Name() | ast.Attribute() if (name := _dotted(node)) is not None:
            if name not in _WORDS:
                names.add(name)
            return
        case ast.Constant(value=int() | float() | str() | None):
            return
        case _:
            raise _refusal(node)
    for part in inner:
        _examine(part, names)


def _refusal(node: ast.AST) -> ConstraintError:
    for part in (node, *ast.iter_child_nodes(node)):
        if type(part) in _REFUSED:
            found, hint = _REFUSED[type(part)]
            return ConstraintError("expected names, numbers, comparisons, and/or/not and + - * / % //", found, hint)
    found = f"'{ast.unparse(node)}'" if isinstance(node, ast.expr) else type(node).__name__
    return ConstraintError("expected names, numbers, comparisons, and/or/not and + - * / % //", found, EXAMPLE)


def _dotted(node: ast.AST) -> str | None:
    """`exits.stop_loss`, where the node is nothing but names with dots between."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return None if before is None else f"{before}.{node.attr}"
    return None


def _value(node: ast.expr, columns: Mapping[str, Column], rows: int) -> Column:
    match node:
        case ast.BoolOp(op=op, values=parts):
            return _in_turn(parts, isinstance(op, ast.And), columns, rows)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return ~_truth(_value(operand, columns, rows))
        case ast.UnaryOp(op=op, operand=operand):
            number = _number(_value(operand, columns, rows))
            return -number if isinstance(op, ast.USub) else number
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _compared(type(op), _value(left, columns, rows), _value(right, columns, rows))
        case ast.Compare(left=left, ops=ops, comparators=others):
            firsts = [left, *others[:-1]]
            pairs: list[ast.expr] = [
                ast.Compare(first, [op], [other]) for first, op, other in zip(firsts, ops, others, strict=True)
            ]
            return _in_turn(pairs, True, columns, rows)
        case ast.BinOp(left=left, op=op, right=right):
            return _computed(type(op), _value(left, columns, rows), _value(right, columns, rows))
        case ast.Constant(value=constant):
            return _constant(constant, rows)
    name = _dotted(node)
    assert name is not None
    return columns[name] if name in columns else _constant(_WORDS[name], rows)


def _in_turn(parts: Sequence[ast.expr], every: bool, columns: Mapping[str, Column], rows: int) -> Column:
    """`and` (`every`) or `or`; a later part is asked only where the earlier ones leave it open, as everywhere."""
    answer = np.full(rows, every)
    undecided = np.arange(rows)
    for part in parts:
        at = {name: values[undecided] for name, values in columns.items()}
        found = _truth(_value(part, at, len(undecided)))
        answer[undecided] = found
        undecided = undecided[found if every else ~found]
    return answer


def _constant(value: Any, rows: int) -> Column:
    return np.broadcast_to(column([value]), rows)


def _truth(values: Column) -> Column:
    if values.dtype == np.bool_:
        return values
    if values.dtype == object:
        return np.fromiter((bool(value) for value in values), np.bool_, len(values))
    found: Column = values != 0
    return found


def _compared(op: type[ast.cmpop], left: Column, right: Column) -> Column:
    compare = _COMPARISONS[op]
    if left.dtype != object and right.dtype != object:
        found: Column = compare(left, right)
        return found
    answers = np.empty(len(left), np.bool_)
    for place, (one, other) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
        try:
            answers[place] = bool(compare(one, other))
        except TypeError:
            raise ConstraintError("expected values that can be compared", f"{one!r} and {other!r}") from None
    return answers


def _computed(op: type[ast.operator], left: Column, right: Column) -> Column:
    try:
        with np.errstate(divide="raise", invalid="raise", over="ignore"):
            found: Column = _ARITHMETIC[op](_number(left), _number(right))
            return found
    except FloatingPointError:
        hint = "ask before you divide: `a != 0 and b / a < 2`"
        raise ConstraintError("expected no division by zero", "one", hint) from None


def _number(values: Column) -> Column:
    """Values to compute with; a text times a number would be a long text."""
    if values.dtype == object:
        wrong = next((value for value in values if not isinstance(value, int | float)), None)
        if wrong is not None or any(value is None for value in values):
            raise ConstraintError("expected a number to compute with", repr(wrong))
    return values.astype(np.float64, copy=False)
