"""Interpretation for tests of venues: all records of some messages, and one fault put into them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from stages.interpreting import Interpreter, Interpreting
from stages.messages import Messages, RawMessage
from stages.venues import Venue

Tables = dict[str, pa.Table]


def numbered(messages: Sequence[RawMessage], first: int = 0) -> list[RawMessage]:
    """As if they had come in this order."""
    return [msgspec.structs.replace(message, ingest_seq=seq) for seq, message in enumerate(messages, first)]


def interpreted(venue: Venue, messages: Sequence[RawMessage], cut: int = 1000, **settings: Any) -> Tables:
    """All records by kind, of messages interpreted so many at a time."""
    return run(Interpreter(venue, Interpreting(**settings)), messages, cut)


def after(venue: Venue, messages: Sequence[RawMessage]) -> Callable[[Sequence[RawMessage]], Tables]:
    """What interprets messages as if these had come before, which are interpreted once."""
    first = Interpreter(venue, Interpreting())
    run(first, messages)
    state = first.snapshot()

    def interpret(rest: Sequence[RawMessage]) -> Tables:
        then = Interpreter(venue, Interpreting())
        then.restore(state)
        return run(then, rest, begun=len(messages))

    return interpret


def run(interpreter: Interpreter, messages: Sequence[RawMessage], cut: int = 1000, begun: int = 0) -> Tables:
    messages = numbered(messages, begun)
    found: dict[str, list[pa.RecordBatch]] = {}
    for at in range(0, len(messages), cut):
        for batch in interpreter.interpret(Messages.of(messages[at : at + cut])).batches:
            found.setdefault(batch.schema.metadata[b"record"].decode(), []).append(batch)
    return {kind: pa.Table.from_batches(parts) for kind, parts in found.items()}


def equal(one: Tables, two: Tables) -> bool:
    return one.keys() == two.keys() and all(one[kind].to_pylist() == two[kind].to_pylist() for kind in one)


def events(tables: Tables) -> list[tuple[str, str | None]]:
    """Kind and instrument of what is wrong."""
    if "quality_event" not in tables:
        return []
    rows = tables["quality_event"].select(["kind", "instrument_id"]).to_pylist()
    return [(row["kind"], row["instrument_id"]) for row in rows]


def cut_in_half(message: RawMessage) -> RawMessage:
    return msgspec.structs.replace(message, payload=message.payload[: len(message.payload) // 2])


FAULTS: dict[str, Callable[[list[RawMessage], int], None]] = {
    "dropped": lambda messages, at: messages.__delitem__(at),
    "duplicated": lambda messages, at: messages.insert(at, messages[at]),
    "swapped": lambda messages, at: messages.__setitem__(slice(at, at + 2), messages[at : at + 2][::-1]),
    "cut": lambda messages, at: messages.__setitem__(at, cut_in_half(messages[at])),
}


def spoilt(fault: str, messages: Sequence[RawMessage], at: int) -> list[RawMessage]:
    found = list(messages)
    FAULTS[fault](found, at)
    return found
