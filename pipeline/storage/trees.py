"""Trees of Python values as msgpack: plain ones as they are, everything else through numbered extensions."""

from __future__ import annotations

import datetime
import io
import uuid
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from ..errors import UnsupportedType

MAX_DEPTH = 200
"""Levels of nesting a value may have; one that contains itself is refused at this depth."""

_EASY = frozenset({type(None), bool, float, bytes})
_MIN_INT, _MAX_INT = -(1 << 63), (1 << 64) - 1
_pack = msgspec.msgpack.encode

_TUPLE, _SET, _FROZENSET, _STRUCT, _PAIRS, _INT, _DECIMAL, _STAMP, _DATE, _TIME, _DELTA, _UUID, _NUMBER, _ARROW = range(
    1, 15
)
_BYTEARRAY, _ARRAY, _TABLE, _ASIDE = 15, 16, 17, 18


def check(value: Any) -> bool:
    """Whether msgpack keeps the tree as it is; raises `UnsupportedType` if we cannot store some node of it.

    Every node is looked at, on the loop, so that what cannot be written is refused by `store` and not when it is
    evicted: half a second for two million nodes of nested dicts. Store that much as columns, or in pieces.
    """
    plain = True
    level: Iterable[Any] = (value,)
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for node in level:
            plain = _check_node(node, below) and plain
        if not below:
            return plain
        level = below
    raise UnsupportedType(f"the value is nested deeper than {MAX_DEPTH} levels, or contains itself")


def _check_node(node: Any, below: list[Any]) -> bool:
    """Checks one node, adds its children that need a look, and says whether msgpack keeps the node as it is."""
    kind = type(node)
    plain = True
    children: Iterable[Any]
    if kind is list:
        children = node
    elif kind is dict:
        keys = set(map(type, node))
        if keys - {str}:
            plain = False
        below.extend(node) if keys - _EASY - {str} or not all(map(str.isascii, node)) else None
        children = node.values()
    elif kind is str:
        if not node.isascii():
            try:
                node.encode()
            except UnicodeEncodeError as error:
                raise UnsupportedType("a str with a lone surrogate has no UTF-8 form") from error
        return True
    elif kind is int:
        return bool(_MIN_INT <= node <= _MAX_INT)
    elif kind in _EASY:
        return True
    elif isinstance(node, msgspec.Struct):
        children, plain = msgspec.structs.astuple(node), False
    elif kind in (tuple, set, frozenset):
        children, plain = node, False
    else:
        _writer(node)
        return False
    kinds = set(map(type, children))
    if kinds <= _EASY:
        return plain
    if kinds == {int}:
        return plain and min(children) >= _MIN_INT and max(children) <= _MAX_INT
    if kinds == {str} and all(map(str.isascii, children)):
        return plain
    below.extend(child for child in children if type(child) not in _EASY)
    return plain


Aside: TypeAlias = list[np.ndarray[Any, Any]]
"""Large arrays that are written from where they lie, beside the tree they belong to."""


def encode(value: Any, context: list[Any], aside: Aside | None = None) -> bytes:
    """The tree as msgpack; struct classes met on the way are appended to `context`, large arrays to `aside`."""
    return _pack(_plain(value, context, aside))


def decode(payload: Any, context: tuple[Any, ...], aside: Sequence[Any] = ()) -> Any:
    """The tree again. Structs become dicts where `context` does not hold their classes."""

    def restore(code: int, data: memoryview) -> Any:
        if code == _ARROW:
            return pa.ipc.open_stream(pa.py_buffer(bytes(data))).read_next_batch()
        if code == _TABLE:
            return pa.ipc.open_stream(pa.py_buffer(bytes(data))).read_all()
        if code == _ARRAY:
            array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
            array.flags.writeable = False
            return array
        if code == _NUMBER:
            return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)[()]
        if code == _BYTEARRAY:
            return bytearray(data)
        if code == _ASIDE:
            return _from_aside(data, aside)
        content = msgspec.msgpack.Decoder(ext_hook=restore).decode(data)
        if code == _STRUCT:
            index, names, *fields = content
            pairs = dict(zip(names, fields, strict=True))
            return context[index](**pairs) if context else pairs
        return _READERS[code](content)

    return msgspec.msgpack.Decoder(ext_hook=restore).decode(payload)


def _plain(node: Any, context: list[Any], aside: Aside | None) -> Any:
    kind = type(node)
    if kind in _EASY or kind is str:
        return node
    if kind is int:
        return node if _MIN_INT <= node <= _MAX_INT else msgspec.msgpack.Ext(_INT, _pack(str(node)))
    if kind is list:
        return [_plain(child, context, aside) for child in node]
    if kind is dict:
        if set(map(type, node)) <= {str}:
            return {key: _plain(child, context, aside) for key, child in node.items()}
        flat = [_plain(part, context, aside) for item in node.items() for part in item]
        return msgspec.msgpack.Ext(_PAIRS, _pack(flat))
    if isinstance(node, msgspec.Struct):
        if kind not in context:
            context.append(kind)
        fields = [_plain(child, context, aside) for child in msgspec.structs.astuple(node)]
        content = [context.index(kind), kind.__struct_fields__, *fields]
        return msgspec.msgpack.Ext(_STRUCT, _pack(content))
    if kind in _COLLECTIONS:
        content = [_plain(child, context, aside) for child in node]
        return msgspec.msgpack.Ext(_COLLECTIONS[kind], _pack(content))
    code, write = _writer(node)
    if code == _ARRAY and aside is not None and node.nbytes > LARGE_BYTES:
        aside.append(node)
        return msgspec.msgpack.Ext(_ASIDE, _pack([len(aside) - 1, _head(node)]))
    return msgspec.msgpack.Ext(code, write(node))


_COLLECTIONS: dict[type, int] = {tuple: _TUPLE, set: _SET, frozenset: _FROZENSET}


ROW_BYTES = 4096
"""Rows below this are copied together before they are written."""
LARGE_BYTES = 256 << 10
"""Arrays above this are copied once instead of three times, by a call that lets go of the interpreter."""


def _npy(value: Any) -> bytes | bytearray:
    array = np.asarray(value)
    if array.nbytes > LARGE_BYTES and (array.flags.c_contiguous or not array.flags.f_contiguous):
        head = _head(array)
        made = bytearray(len(head) + array.nbytes)
        made[: len(head)] = head
        np.ndarray(array.shape, array.dtype, made, len(head))[...] = array
        return made
    sink = io.BytesIO()
    np.lib.format.write_array(sink, array, allow_pickle=False)
    return sink.getvalue()


def _head(array: np.ndarray[Any, Any]) -> bytes:
    """What stands before an array's values, in C order."""
    sink = io.BytesIO()
    head = np.lib.format.header_data_from_array_1_0(array) | {"fortran_order": False}
    np.lib.format.write_array_header_2_0(sink, head)
    return sink.getvalue()


def aside_pieces(array: np.ndarray[Any, Any]) -> list[memoryview]:
    """An array's values in C order, as they are to be written; copied only where they do not lie row by row."""
    if array.ndim > 1 and not array.flags.c_contiguous and array[0].flags.c_contiguous and array[0].nbytes >= ROW_BYTES:
        return [row.reshape(-1).view(np.uint8).data for row in array]
    return [np.ascontiguousarray(array).reshape(-1).view(np.uint8).data]


def _from_aside(data: memoryview, aside: Sequence[Any]) -> np.ndarray[Any, Any]:
    place, head = msgspec.msgpack.decode(data)
    sink = io.BytesIO(head)
    np.lib.format.read_magic(sink)
    shape, _, dtype = np.lib.format.read_array_header_2_0(sink)
    array = np.frombuffer(aside[place], dtype=dtype).reshape(shape).copy()  # compiled code wants it aligned
    array.flags.writeable = False
    return array


def _stream(value: pa.RecordBatch | pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, value.schema) as writer:
        writer.write(value)
    return bytes(sink.getvalue())


def _stamp(value: datetime.datetime) -> bytes:
    zone = value.tzinfo
    if zone is None or isinstance(zone, datetime.timezone):
        return _pack([value.isoformat(), value.fold, None])
    return _pack([value.replace(tzinfo=None).isoformat(), value.fold, str(zone)])


def _read_stamp(content: list[Any]) -> datetime.datetime:
    from zoneinfo import ZoneInfo

    text, fold, zone = content
    value = datetime.datetime.fromisoformat(text).replace(fold=fold)
    return value if zone is None else value.replace(tzinfo=ZoneInfo(zone))


_WRITERS: dict[type, tuple[int, Callable[[Any], bytes | bytearray]]] = {
    int: (_INT, lambda value: _pack(str(value))),
    Decimal: (_DECIMAL, lambda value: _pack(str(value))),
    datetime.datetime: (_STAMP, _stamp),
    datetime.date: (_DATE, lambda value: _pack(value.isoformat())),
    datetime.time: (_TIME, lambda value: _pack([value.isoformat(), value.fold])),
    datetime.timedelta: (_DELTA, lambda value: _pack([value.days, value.seconds, value.microseconds])),
    uuid.UUID: (_UUID, lambda value: _pack(value.bytes)),
    bytearray: (_BYTEARRAY, bytes),
    np.ndarray: (_ARRAY, _npy),
    pa.RecordBatch: (_ARROW, _stream),
    pa.Table: (_TABLE, _stream),
}

_READERS: dict[int, Callable[[Any], Any]] = {
    _TUPLE: tuple,
    _SET: set,
    _FROZENSET: frozenset,
    _PAIRS: lambda flat: dict(zip(flat[::2], flat[1::2], strict=True)),
    _INT: int,
    _DECIMAL: Decimal,
    _STAMP: _read_stamp,
    _DATE: datetime.date.fromisoformat,
    _TIME: lambda content: datetime.time.fromisoformat(content[0]).replace(fold=content[1]),
    _DELTA: lambda content: datetime.timedelta(*content),
    _UUID: lambda raw: uuid.UUID(bytes=raw),
}


def _writer(node: Any) -> tuple[int, Callable[[Any], bytes | bytearray]]:
    """How to write a node that msgpack has no form for; raises `UnsupportedType`."""
    found = _WRITERS.get(type(node))
    if found is not None:
        if isinstance(node, np.ndarray) and node.dtype.hasobject:
            raise UnsupportedType(f"expected an array of plain values, found dtype {node.dtype}")
        if isinstance(node, datetime.datetime | datetime.time):
            _check_zone(node)
        return found
    if isinstance(node, np.generic) and not node.dtype.hasobject:
        return _NUMBER, _npy
    raise UnsupportedType(
        f"cannot store a {type(node).__module__}.{type(node).__qualname__} without pickle; store an Arrow batch, "
        "a frame, a numpy array, bytes, str, a struct, or dicts and lists of such"
    )


def _check_zone(node: datetime.datetime | datetime.time) -> None:
    zone = node.tzinfo
    if zone is None or isinstance(zone, datetime.timezone):
        return
    if type(zone).__module__ == "zoneinfo" and getattr(zone, "key", None) and isinstance(node, datetime.datetime):
        return
    raise UnsupportedType(f"expected a time zone of the standard library, found {zone!r}")
