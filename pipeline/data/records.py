"""Operations on a data manager as self-contained bytes, which give the same operation back in another process."""

from __future__ import annotations

import logging
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa

from ..errors import CorruptEntry
from ..storage import codecs
from ..storage.codecs import Buffer
from .base import Key, key_bytes

log = logging.getLogger(__name__)

STORE: Final = 1
"""A value replaces what the key held."""
APPEND: Final = 2
"""Rows extend the series of the key."""
DELETE: Final = 3
ROWS: Final = 4
"""Rows of many members of a group extend their series."""
CHANGES: Final = frozenset({STORE, APPEND, DELETE, ROWS})
FLUSHED: Final = 5
"""Everything up to a row has left through the flush callback, or as dead letters."""
CLEAR: Final = 6
"""Nothing before this counts."""
FLUSHING: Final = 7
"""A batch with these bounds is about to be tried for the first time."""
BASE: Final = 8
"""A piece of what a key held when the log was rewritten; the last piece puts it in place of all before it."""

FILED: Final = 9
"""Files that hold a value, or rows of a series up to a change: what was recorded of these before is not needed."""

RECORD_BYTES: Final = 64
"""About what a record takes beside its payload."""
_LENGTH: Final = struct.Struct("<I")
_ALIGNMENT: Final = 64


class Head(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """What stands before the bytes of a value."""

    codec: int = 0
    """Kind of the bytes that follow; 0 where none do."""
    text: bool = True
    """Whether the key is a str."""
    size: int = 0
    """The charge of a stored value."""
    schema: bytes = b""
    classes: Sequence[str] = ()
    """Structs in the value, `module:name`."""
    member: str | None = None
    numbers: Sequence[int] = ()
    """Row numbers of a flush and its last generation; where members' rows begin; a piece's run, is last, is series;
    of files: are a series, hold changes up to, are all of the key, first change behind them (0: none)."""
    birth: int = 0
    """Number of the change that made the key: keys come back in the order in which they were first stored."""
    names: Sequence[str] = ()
    """Members whose rows these are."""


def packed(head: Head, pieces: Sequence[Buffer] = ()) -> Sequence[Buffer]:
    """A payload: the head, padded so that what follows is aligned, and the value's bytes."""
    raw = msgspec.msgpack.encode(head)
    pad = -(_LENGTH.size + len(raw)) % _ALIGNMENT if pieces else 0
    return [_LENGTH.pack(len(raw)) + raw + bytes(pad), *pieces]


def of_value(key: Key, value: Any, kind: int, **fields: Any) -> Sequence[Buffer]:
    """The payload of a value of a codec kind. Pure; runs in any thread."""
    encoded = codecs.encode(value, kind)
    schema = b""
    classes: tuple[str, ...] = ()
    if kind == codecs.BATCH:
        schema = encoded.context[0].serialize().to_pybytes()
    else:
        classes = class_names(encoded.context)
    head = Head(codec=kind, text=isinstance(key, str), schema=schema, classes=classes, **fields)
    return packed(head, encoded.pieces)


def class_names(context: Sequence[Any]) -> tuple[str, ...]:
    """How another process finds the structs of a value."""
    return tuple(f"{found.__module__}:{found.__qualname__}" for found in context)


def classes_of(names: Sequence[str]) -> tuple[Callable[..., Any], ...]:
    return tuple(_struct(name) for name in names)


def of_rows(key: Key, batches: Sequence[pa.RecordBatch], **fields: Any) -> Sequence[Buffer]:
    """The payload of rows of one schema, which may be none at all."""
    if not batches:
        return packed(Head(text=isinstance(key, str), **fields))
    if len(batches) == 1 and not codecs.has_dictionaries(batches[0].schema):
        return of_value(key, batches[0], codecs.BATCH, **fields)
    return of_value(key, list(batches), codecs.BATCHES, **fields)


def opened(payload: Buffer, key: bytes, where: str) -> tuple[Head, memoryview]:
    """The head of a payload and the bytes of its value; raises `CorruptEntry` where it has no such form."""
    view = memoryview(payload).cast("B")
    try:
        (length,) = _LENGTH.unpack_from(view)
        head = msgspec.msgpack.decode(view[_LENGTH.size : _LENGTH.size + length], type=Head)
    except (struct.error, msgspec.DecodeError) as error:
        raise CorruptEntry(key, where, f"a record whose head is no head: {error}") from error
    begin = _LENGTH.size + length
    return head, view[begin + (-begin % _ALIGNMENT if head.codec else 0) :]


def value_of(head: Head, rest: memoryview) -> Any:
    """The value of a payload, in memory of its own. Rows come as a list of batches where they were appended so."""
    if not head.codec:
        return []
    own = pa.allocate_buffer(len(rest))
    memoryview(own).cast("B")[:] = rest
    context: tuple[Any, ...] = classes_of(head.classes)
    if head.codec == codecs.BATCH:
        context = (pa.ipc.read_schema(pa.py_buffer(head.schema)),)
    return codecs.decode(head.codec, own, context)


def rows_of(head: Head, rest: memoryview) -> list[pa.RecordBatch]:
    """Appended rows of a payload."""
    value = value_of(head, rest)
    return value if isinstance(value, list) else [value]


def key_of(raw: bytes, head: Head) -> Key:
    return raw.decode() if head.text else raw


def raw_key(key: Key) -> bytes:
    return key_bytes(key)


def _struct(name: str) -> Callable[..., Any]:
    """A struct's class if its module has been imported; nothing is imported because a file says so."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    if isinstance(found, type) and issubclass(found, msgspec.Struct):
        return found
    log.warning(
        "structs of class %s come back as dicts: their module has not been imported, or has no such class", name
    )
    return dict
