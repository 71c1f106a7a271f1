"""One message, and the Arrow schema of many."""

from __future__ import annotations

import enum

import msgspec
import pyarrow as pa

from stages.schemas import NS_UTC, SOURCE


class MessageKind(enum.IntEnum):
    """What a connection had to tell. Payloads of OPENED and CLOSED are what is known of it, such as a reason."""

    RECEIVED = 0
    """A message of a WebSocket, or a line of a capture."""
    RESPONSE = 1
    """The body of an HTTP response; `url` is what was asked."""
    SENT = 2
    """What we sent, such as a subscription."""
    OPENED = 3
    CLOSED = 4
    FAILED = 5
    """An HTTP request that failed: the status as text, a blank, and the body."""
    IDLE = 6
    """Nothing came for a while: it only says how late it is, so that silence can be told."""


class RawMessage(msgspec.Struct, frozen=True):
    """A message: received at `ts_recv` (ns since 1970, UTC), the `ingest_seq`-th of its session.

    `source` is a connection or file, and becomes the `source_id` of its records; `url` what it is connected to.
    """

    ts_recv: int
    ingest_seq: int
    kind: MessageKind
    source: str
    url: str
    payload: bytes


MESSAGE = pa.schema(
    [
        pa.field("ts_recv", NS_UTC, nullable=False, metadata={"unit": "ns since 1970, UTC"}),
        pa.field("ingest_seq", pa.uint64(), nullable=False, metadata={"unit": "ordinal in the recording"}),
        pa.field("source_id", SOURCE, nullable=False, metadata={"unit": "connection or file"}),
        pa.field("kind", pa.int8(), nullable=False, metadata={"unit": "stages.messages.MessageKind"}),
        pa.field(
            "url", pa.dictionary(pa.int32(), pa.utf8()), nullable=False, metadata={"unit": "what was connected to"}
        ),
        pa.field("payload", pa.binary(), nullable=False, metadata={"unit": "bytes as received"}),
    ],
    metadata={"record": "message"},
)
