"""Every error Penstock raises on purpose, drawn once.

PenstockError
├── ConfigError              one or more problems, each with file, line, expectation and suggestion (exit code 2)
├── InputError               a recording or file of the user's cannot be read as declared
├── SchemaMismatch           a stage cannot work on the columns its input offers
├── StateMismatch            a logic cannot go on from a state: of another version, or of a stage with other fields
├── CannotResume             a phase cannot go on from its checkpoint, and begins anew
├── EdgeClosed               the other end of an edge has gone
├── CallOverdue              a call of a logic has not returned within its `timeout_seconds`
├── TooManyDeadLetters       more of a container's rows failed than its `max_dead_share` allows
├── ContainerFailed          a container's logic or storage failed; names the container
├── PhaseFailed              a phase did not complete; names every container that failed
├── Interrupted              a run was drained before its feeds ended
└── DataError                a data manager refused or failed; says where the data is now
    ├── BudgetExceeded       the value does not fit beside what is held (`mode: memory`)
    ├── ValueTooLarge        the value alone exceeds the whole budget
    ├── BackpressureTimeout  admission did not come within the declared time
    ├── DiskFull             no room on the disk or in the quota; the value is still in memory or was refused
    ├── StorageFailed        the operating system failed us; says which call and which file
    ├── CorruptEntry         stored bytes do not match their checksum, or their key
    ├── ManagerClosed        used after close
    ├── ReentrantDeadlock    a callback would wait on itself
    ├── NotResident          `retrieve_nowait` on a value that is on disk (also a KeyError)
    ├── FlushedAway          the value went to a user's flush callback (also a KeyError)
    ├── InvalidKey           not a str or bytes, too long, or not encodable (also a ValueError)
    ├── UnsizedValue         an opaque value without `size=` (also a TypeError)
    └── UnsupportedType      no codec can store this type without pickle (also a TypeError)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class PenstockError(Exception):
    """Base of everything raised on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration: where, what was expected, what was found, what to try."""

    path: str
    """Dotted path of the setting, such as `containers.bars.every`."""
    expected: str
    found: str = ""
    suggestion: str = ""
    file: str = ""
    line: int | None = None
    """1-based line in `file`; None when the value came from Python or the command line."""

    def __str__(self) -> str:
        where = self.file
        if self.line is not None:
            where += f":{self.line}"
        text = f"{where}: " if where else ""
        if self.path:
            text += f"{self.path}: "
        text += self.expected
        if self.found:
            text += f", found {self.found}"
        if self.suggestion:
            text += f"; {self.suggestion}"
        return text


class ConfigError(PenstockError):
    """The configuration has problems, all of them listed."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class InputError(PenstockError):
    """A file of the user's cannot be read as declared; the message says file, row, expectation, finding."""


class SchemaMismatch(PenstockError):
    """A stage cannot work on the columns its input offers."""


class StateMismatch(PenstockError):
    """A logic cannot go on from the state it was given; the message says what was expected and what was found."""


class CannotResume(PenstockError):
    """A phase cannot go on from its checkpoint; the message says why. It can begin anew."""


class EdgeClosed(PenstockError):
    """The other end of an edge has gone; nothing more can be sent or will come."""


class CallOverdue(PenstockError):
    """A call of a logic has not returned in time; the message says what became of it."""


class TooManyDeadLetters(PenstockError):
    """More of the last rows are dead letters than `max_dead_share` allows; they are in the phase's folder."""


class ContainerFailed(PenstockError):
    """A container failed; `container` is its name, `__cause__` what happened."""

    def __init__(self, container: str, cause: BaseException) -> None:
        self.container = container
        super().__init__(f"container '{container}' failed: {type(cause).__name__}: {cause}")
        self.__cause__ = cause


class PhaseFailed(PenstockError):
    """A phase did not complete; `failures` maps each failed container to its error."""

    def __init__(
        self, phase: str, failures: Mapping[str, BaseException], detail: str = "", *, advice: str = ""
    ) -> None:
        self.phase = phase
        self.failures = dict(failures)
        reasons = "; ".join(str(error) for error in self.failures.values()) or detail
        super().__init__(f"phase '{phase}' failed: {reasons}{advice and f'; {advice}'}")


class Interrupted(PenstockError):
    """A run was drained before its feeds ended; what was processed is persisted and reported."""


class DataError(PenstockError):
    """A data manager refused or failed; the message says where the data is now."""


class BudgetExceeded(DataError):
    """The value does not fit beside what is held."""


class ValueTooLarge(DataError):
    """The value alone exceeds the whole budget; nothing was evicted for it."""


class BackpressureTimeout(DataError):
    """Admission did not come within the declared time; the caller still has the value."""


class DiskFull(DataError):
    """No room on the disk or in the quota."""


class StorageFailed(DataError):
    """The operating system failed a storage call."""


class CorruptEntry(DataError):
    """Stored bytes do not match their checksum or their key."""

    def __init__(self, key: str | bytes, where: str, why: str) -> None:
        self.key, self.where, self.why = key, where, why
        super().__init__(f"the stored value of {key!r} at {where} is corrupt: {why}")


class ManagerClosed(DataError):
    """The data manager is closed."""


class ReentrantDeadlock(DataError):
    """A callback called back in a way that would wait on itself."""


class NotResident(DataError, KeyError):
    """The value exists but is on disk; `await retrieve` reads it."""

    __str__ = Exception.__str__


class FlushedAway(DataError, KeyError):
    """The value was handed to a user's flush callback and is no longer here."""

    __str__ = Exception.__str__


class InvalidKey(DataError, ValueError):
    """A key must be str or bytes of 0 to 65,535 bytes, without lone surrogates."""


class UnsizedValue(DataError, TypeError):
    """The size of this value cannot be known; pass `size=`."""


class UnsupportedType(DataError, TypeError):
    """No codec can store this type without pickle."""
