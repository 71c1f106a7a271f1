"""What is counted while a recording is read."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Counts:
    """What a reader counts while it reads; true of the recording, whatever the batch size."""

    rows: int = 0
    steps_back: int = 0
    """Rows whose time lies before that of the row in front of them in the same file."""
    first_step_back: str = ""
    """Where that was first so."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Rows not passed on, by reason."""
    doubtful: dict[str, int] = field(default_factory=dict)
    """Rows passed on although they look wrong, by reason."""
    first: dict[str, str] = field(default_factory=dict)
    """Where the first row of each reason was found, as far as that is known."""
    file: str = ""
    """The file being read."""

    def leave_out(self, reason: str, rows: int, place: str = "") -> None:
        self._note(self.left_out, reason, rows, place)

    def doubt(self, reason: str, rows: int, place: str) -> None:
        self._note(self.doubtful, reason, rows, place)

    def _note(self, counts: dict[str, int], reason: str, rows: int, place: str) -> None:
        if rows:
            counts[reason] = counts.get(reason, 0) + rows
            if place:
                self.first.setdefault(reason, place)
