"""What is counted and told while a capture is read: nothing in it is left out silently."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

MOST_NOTES = 20
"""Notes kept of each reason, with their place; more are only counted."""
KEPT_BYTES = 256
"""Bytes of a line kept in a note."""


@dataclass(frozen=True)
class Note:
    """Something wrong in a file: where it is, what, and the beginning of the line."""

    file: Path
    line: int
    """From 1; 0 where the file as a whole is meant."""
    reason: str
    detail: str = ""
    raw: bytes = b""

    def said(self) -> str:
        place = f"{self.file}: line {self.line}" if self.line else str(self.file)
        words = f"{place}: {self.reason}{f' ({self.detail})' if self.detail else ''}"
        return f"{words}, found {self.raw[:80]!r}" if self.raw else words


@dataclass
class CaptureCounts:
    """What a reader of captures counts; true of the capture, however its runs are cut."""

    messages: int = 0
    by_kind: dict[int, int] = field(default_factory=dict)
    """Messages by `MessageKind`."""
    payload_bytes: int = 0
    steps_back: int = 0
    """Messages whose `ts_recv` lay before that of the message in front of them in the same source, and was raised."""
    wrong: dict[str, int] = field(default_factory=dict)
    """Lines and files that are not as they should be, by reason."""
    notes: list[Note] = field(default_factory=list)
    """The first of them, with their places, and the first step back."""
    configurations: dict[str, str] = field(default_factory=dict)
    """What a recorder wrote of its own configuration, by file name."""

    def note(self, note: Note) -> None:
        self.wrong[note.reason] = self.wrong.get(note.reason, 0) + 1
        if self.wrong[note.reason] <= MOST_NOTES:
            self.notes.append(replace(note, raw=note.raw[:KEPT_BYTES]))

    def step_back(self, file: Path, line: int, times: int) -> None:
        if not self.steps_back:
            self.notes.append(Note(file, line, "the first time that steps back"))
        self.steps_back += times
