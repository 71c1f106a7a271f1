"""Faults that a server plays on purpose: what goes wrong, and exactly where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
import yaml

from pipeline import ConfigError, Duration, InputError, Problem, parse_duration
from stages.venues import nearest

EXAMPLE = "such as `faults: [{do: drop, stream: btcusdt@trade, message: 20}]`"


class _Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="do"):
    """Something that goes wrong. Counts begin at 1, and are of the recording, whoever gets its messages."""


class _OfMessages(_Fault, frozen=True, kw_only=True):
    stream: str
    """The stream, as the recording names it."""
    message: int
    """Which of its messages; where several are concerned, the first."""

    def __post_init__(self) -> None:
        _at_least_1(self.message, "message")


class Drop(_OfMessages, frozen=True, kw_only=True, tag="drop"):
    """`count` messages are never sent."""

    count: int = 1

    def __post_init__(self) -> None:
        _at_least_1(self.message, "message")
        _at_least_1(self.count, "count")


class Duplicate(_OfMessages, frozen=True, kw_only=True, tag="duplicate"):
    """The message is sent twice."""


class Reorder(_OfMessages, frozen=True, kw_only=True, tag="reorder"):
    """The message is sent right after the next one of its stream; never, if it was the last."""


class Cut(_OfMessages, frozen=True, kw_only=True, tag="cut"):
    """Only the first `keep` bytes of what the message says are sent; left out: half of them."""

    keep: int | None = None

    def __post_init__(self) -> None:
        _at_least_1(self.message, "message")
        if self.keep is not None and self.keep < 0:
            raise ValueError(f"expected keep to be 0 bytes or more, found {self.keep}")


class _AtMoment(_Fault, frozen=True, kw_only=True):
    """Happens when a message is due, before it is sent: the n-th of its stream, or of all, or the first at or after a
    moment."""

    message: int | None = None
    stream: str | None = None
    at: Duration | None = None
    """A time in the recording since its first message."""

    def __post_init__(self) -> None:
        if (self.message is None) == (self.at is None):
            raise ValueError("expected either message or at: when it happens")
        if self.message is not None:
            _at_least_1(self.message, "message")
        if self.at is not None:
            if self.stream is not None:
                raise ValueError("expected no stream beside at; a stream is of message")
            parse_duration(self.at)

    @property
    def at_ns(self) -> int | None:
        return None if self.at is None else parse_duration(self.at)


class Stall(_AtMoment, frozen=True, kw_only=True, tag="stall"):
    """Nothing is sent for so many seconds of the server's clock; then what is late goes at once."""

    seconds: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _more_than_0(self.seconds)


class Disconnect(_AtMoment, frozen=True, kw_only=True, tag="disconnect"):
    """Connections are closed behind all they were sent: one, or all."""

    client: int | None = None
    """The n-th that ever connected; left out: all that are connected."""
    code: int | None = 1001
    """Of the closing frame; null: the socket is closed without one."""
    lose: int = 0
    """So many messages, of all streams, from this one on, reach nobody, however soon clients are back."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.client is not None:
            _at_least_1(self.client, "client")
        if self.code is not None and not (1000 <= self.code <= 1015 or 3000 <= self.code < 5000):
            raise ValueError(f"expected a code of RFC 6455, such as 1001, found {self.code}")
        if self.lose < 0:
            raise ValueError(f"expected lose to be 0 messages or more, found {self.lose}")


class Refuse(_AtMoment, frozen=True, kw_only=True, tag="refuse"):
    """New connections and requests are answered with 503 for so many seconds of the server's clock."""

    seconds: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _more_than_0(self.seconds)


class Snapshot(_Fault, frozen=True, kw_only=True, tag="snapshot"):
    """Requests for books, the `request`-th and so many in all, are refused, or never answered."""

    request: int
    count: int = 1
    status: int | Literal["timeout"] = 429
    retry_seconds: float | None = None
    """What Retry-After says."""

    def __post_init__(self) -> None:
        _at_least_1(self.request, "request")
        _at_least_1(self.count, "count")
        if isinstance(self.status, int) and not 400 <= self.status <= 599:
            raise ValueError(f"expected a status of 400 to 599, or timeout, found {self.status}")


Fault: TypeAlias = Drop | Duplicate | Reorder | Cut | Stall | Disconnect | Refuse | Snapshot
Moment: TypeAlias = Stall | Disconnect | Refuse


def load_faults(path: str | Path) -> tuple[Fault, ...]:
    """The faults that a YAML file lists under `faults`. Raises `ConfigError` with every problem, `InputError`."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected a YAML file of faults, found that it cannot be read: {error}") from error
    try:
        node, value = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = None if mark is None else mark.line + 1
        said = str(getattr(error, "problem", None) or error)
        raise ConfigError([Problem("", "expected YAML", said, file=str(path), line=line)]) from error
    if not isinstance(value, dict) or list(value) != ["faults"] or not isinstance(value["faults"], list):
        told = ", ".join(f"{key}: {_kind_of(each)}" for key, each in value.items()) if isinstance(value, dict) else ""
        expected = "expected `faults:` with a list, and nothing else"
        raise ConfigError([Problem("", expected, told or _kind_of(value), EXAMPLE, str(path), 1)])
    items = value["faults"]
    assert node is not None
    nodes = next(item for key, item in node.value if key.value == "faults").value
    found, problems = [], []
    for number, (item, where) in enumerate(zip(items, nodes, strict=True)):
        place, line = f"faults.{number}", where.start_mark.line + 1
        if unknown := _unknown(item):
            problems += [Problem(place, *words, file=str(path), line=line) for words in unknown]
            continue
        try:
            found.append(msgspec.convert(item, Fault))
        except msgspec.ValidationError as error:
            problems.append(_problem(place, error, str(path), line))
    if problems:
        raise ConfigError(problems)
    return tuple(found)


def _unknown(item: object) -> list[tuple[str, str, str]]:
    """Of an item what was expected, found, and may be meant, where it is no fault or has words that faults do not."""
    if not isinstance(item, dict):
        return [("expected a fault", _kind_of(item), EXAMPLE)]
    kinds = {kind.__struct_config__.tag: kind for kind in Fault.__args__}
    word = str(item.get("do", "nothing"))
    if word not in kinds:
        return [("expected `do:` and what goes wrong", f"'{word}'", nearest(word, names()))]
    known = kinds[word].__struct_fields__
    return [
        (f"{word} has no setting '{name}'", "", nearest(str(name), known))
        for name in item
        if name not in ("do", *known)
    ]


def _problem(place: str, error: Exception, file: str, line: int) -> Problem:
    said, _, where = str(error).partition(" - at `$")
    words = where.rstrip("`").lstrip(".")
    said = said.replace("Object missing required field", "expected also").replace("`", "'")
    suggestion = "a duration is such as 5s, 500ms or 1m" if words == "at" else ""
    return Problem(
        ".".join(part for part in (place, words) if part), said[:1].lower() + said[1:], "", suggestion, file, line
    )


def _kind_of(value: object) -> str:
    return "nothing" if value is None else "a list" if isinstance(value, list) else f"'{value}'"


def fault_said(fault: Fault) -> str:
    """`drop of btcusdt@trade, message 3`, as a person would name it."""
    told = msgspec.to_builtins(fault)
    words = [f"{name} {value}" for name, value in told.items() if name not in ("do", "stream") and value is not None]
    stream = told.get("stream")
    return f"{told['do']}{f' of {stream}' if stream else ''}, {', '.join(words)}"


def names() -> Sequence[str]:
    """The words for what may go wrong."""
    return [kind.__struct_config__.tag for kind in Fault.__args__]


def _at_least_1(value: int, name: str) -> None:
    if value < 1:
        raise ValueError(f"expected {name} to be 1 or more, found {value}")


def _more_than_0(seconds: float) -> None:
    if not seconds > 0:
        raise ValueError(f"expected seconds to be more than 0, found {seconds:g}")
