"""Tables for terminals, and the same without bold headers and left-out columns for files and pipes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TextIO

import click

from .figures import column_said, printable

GAP = "  "


def report_table(rows: Sequence[Mapping[str, Any]], title: str = "") -> str:
    """Rows of one report, numbers to the right.

    Where a terminal is too narrow, headers stand on several lines, then columns are left out from the right, and a
    last line names them.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    texts = {name: column_said(name, column) for name, column in columns.items()}
    numeric = {name for name, column in columns.items() if _is_numeric(column)}
    wide = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else sys.maxsize
    stacked = _width(texts, stacked=False) > wide
    shown = list(names)
    while len(shown) > 1 and _width({name: texts[name] for name in shown}, stacked=stacked) > wide:
        shown.pop()
    heads = [_stacked(name) if stacked else [name] for name in shown]
    table = _drawn(heads, list(zip(*(texts[name] for name in shown), strict=True)), [name in numeric for name in shown])
    left_out = names[len(shown) :]
    note = f"\nnot shown for want of width: {', '.join(left_out)}" if left_out else ""
    return (f"{title}\n" if title else "") + table + note


def text_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of words; the last column is left as long as it is."""
    return _drawn([[name] for name in names], [[printable(cell) for cell in row] for row in rows], [False] * len(names))


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody watches; a stream that was closed before the program began is None."""
    return stream is not None and stream.isatty()


def may_decorate(stream: TextIO | None) -> bool:
    """Whether bold words and a moving cursor are welcome: on a terminal, unless `NO_COLOR` says otherwise."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _drawn(heads: Sequence[Sequence[str]], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """Headers (each some lines, set at the bottom), a rule, the rows."""
    widths = [max(map(len, [*head, *(row[i] for row in rows)])) for i, head in enumerate(heads)]
    height = max(map(len, heads))
    padded = [[*[""] * (height - len(head)), *head] for head in heads]
    above = [_line(line, widths, right) for line in zip(*padded, strict=True)]
    if may_decorate(sys.stdout):
        above = [click.style(line, bold=True) for line in above]
    rule = "─" * (sum(widths) + len(GAP) * (len(widths) - 1))
    return "\n".join([*above, rule, *(_line(row, widths, right) for row in rows)])


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    aligned = [
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    ]
    return GAP.join(aligned).rstrip()


def _width(texts: Mapping[str, Collection[str]], *, stacked: bool) -> int:
    heads = {name: _stacked(name) if stacked else [name] for name in texts}
    columns = [max(map(len, [*heads[name], *column])) for name, column in texts.items()]
    return sum(columns) + len(GAP) * (len(columns) - 1)


def _stacked(name: str) -> list[str]:
    """`max_drawdown` on two lines."""
    parts = name.split("_")
    return [f"{part}_" for part in parts[:-1]] + parts[-1:]


def _is_numeric(column: Sequence[Any]) -> bool:
    return all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in column)
