"""Runs of messages keep every message as it came, and share the memory of payloads."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.messages import MESSAGE, MessageKind, Messages, RawMessage

words = st.sampled_from(["a.ws.1", "b.ws.2", "wss://x", ""])
raw_messages = st.lists(
    st.builds(
        RawMessage,
        ts_recv=st.integers(0, 2**62),
        ingest_seq=st.integers(0, 2**64 - 1),
        kind=st.sampled_from(MessageKind),
        source=words,
        url=words,
        payload=st.binary(max_size=20),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(raw_messages)
def test_messages_come_back_as_they_went_in(rows: list[RawMessage]) -> None:
    messages = Messages.of(rows)
    batch = messages.to_batch()
    assert list(messages) == rows
    assert batch.schema.equals(MESSAGE, check_metadata=True)
    assert list(Messages.from_batch(batch)) == rows
    assert [messages.raw(at) for at in range(len(messages))] == [row.payload for row in rows]


@settings(deadline=None)
@given(raw_messages, st.data())
def test_slices_join_to_the_whole_again(rows: list[RawMessage], data: st.DataObject) -> None:
    messages = Messages.of(rows)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    parts = [messages.slice(start, stop) for start, stop in zip([0, *cuts], [*cuts, None], strict=True)]
    assert list(Messages.concat(parts)) == rows
    for part in parts:
        assert list(Messages.from_batch(part.to_batch())) == list(part)
        text, offsets = part.joined()
        assert [text[start:stop].tobytes() for start, stop in pairwise(offsets)] == part.payloads()


def test_payloads_are_shared_with_batches_and_scanners() -> None:
    messages = Messages.of_payloads([b"one", b"three"], [5, 7], first_seq=3, source="file", url="wss://x")
    address = messages.payload.buffers()[2].address
    batch = messages.to_batch()
    assert batch.column("payload").buffers()[2].address == address
    assert Messages.from_batch(batch).payload.buffers()[2].address == address
    assert messages.joined().text.ctypes.data == address
    assert Messages.from_batch(batch).joined().text.ctypes.data == address
    assert list(messages)[1] == RawMessage(7, 4, MessageKind.RECEIVED, "file", "wss://x", b"three")


def test_no_runs_are_an_empty_run() -> None:
    empty = Messages.concat([])
    assert len(empty) == 0
    assert list(empty) == []
    assert empty.to_batch().num_rows == 0
    assert empty.ts_recv.dtype == np.int64
    assert empty.payload.type == pa.large_binary()
