"""Values to bytes and back, without pickle: what can be stored does not depend on where it is stored.

| value | bytes | comes back as |
|---|---|---|
| bytes, str | themselves, UTF-8 | bytes, str |
| RecordBatch, Table | Arrow IPC | RecordBatch, Table |
| pandas, polars frame | Arrow IPC | a frame of the same library, columns, types and index |
| numpy array | npy | a read-only array (in every mode) |
| struct, dict, list, tuple, set, number, date, decimal | msgpack | the same classes, nested as they were |

A struct comes back as its own class as long as `Encoded.context` is at hand, which every data manager keeps; a
reader in another process gets a dict.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from ..errors import UnsupportedType
from . import trees
from .sizing import _is_frame

Buffer: TypeAlias = bytes | bytearray | memoryview | pa.Buffer

RAW: Final = 1
TEXT: Final = 2
PLAIN: Final = 3
"""A tree msgpack keeps as it is: dicts with str keys, lists, str, int, float, bool, bytes, None."""
TREE: Final = 4
"""A tree with structs, tuples, dates, arrays: anything msgpack needs our extensions for."""
BATCH: Final = 5
"""One record batch message, its schema kept aside in the context: a third of the cost of a stream."""
STREAM: Final = 6
"""A record batch with dictionaries, as an IPC stream."""
TABLE: Final = 7
PANDAS: Final = 8
POLARS: Final = 9
ARRAY: Final = 10
BATCHES: Final = 11
"""A list of record batches of one schema: part of a series."""

COPYING = frozenset({TEXT, PLAIN, TREE, PANDAS, POLARS})
"""Kinds whose bytes and value exist side by side while one is made from the other."""
GATHER_BYTES = 256 << 10
"""Batches above this are written from where they lie instead of being copied into one piece first."""


class Encoded(NamedTuple):
    """The bytes of a value, in pieces to be written one after the other, and what decoding needs beside them."""

    pieces: Sequence[Buffer]
    context: tuple[Any, ...] = ()

    @property
    def num_bytes(self) -> int:
        return sum(len(piece) for piece in self.pieces)


def kind_of(value: Any) -> int:
    """How `value` will be encoded; raises `UnsupportedType` if it cannot be, saying what was found where."""
    kind = type(value)
    if kind is bytes:
        return RAW
    if kind is str:
        trees.check(value)
        return TEXT
    if isinstance(value, pa.RecordBatch):
        return STREAM if has_dictionaries(value.schema) else BATCH
    if isinstance(value, pa.Table):
        return TABLE
    if kind is np.ndarray:
        if value.dtype.hasobject:
            raise UnsupportedType(f"expected an array of plain values, found dtype {value.dtype}")
        if value.dtype.names and not all(map(str.isascii, value.dtype.names)):
            raise UnsupportedType(f"expected ASCII field names, found dtype {value.dtype}")
        return ARRAY
    if _is_frame(value, "pandas"):
        _check_pandas(value)
        return PANDAS
    if _is_frame(value, "polars"):
        _check_polars(value)
        return POLARS
    return PLAIN if trees.check(value) else TREE


def encode(value: Any, kind: int) -> Encoded:
    """The bytes of a value of a kind found by `kind_of`. Pure; runs in any thread. Large Arrow data is not copied."""
    match kind:
        case 1:
            return Encoded((value,))
        case 2:
            return Encoded((value.encode(),))
        case 3:
            return Encoded((msgspec.msgpack.encode(value),))
        case 4:
            context: list[Any] = []
            return Encoded((trees.encode(value, context),), tuple(context))
        case 5:
            if value.get_total_buffer_size() > GATHER_BYTES:
                return Encoded(_gather_message(value), (value.schema,))
            return Encoded((value.serialize(),), (value.schema,))
        case 6:
            return Encoded(_gather(value.schema, (value,)))
        case 7:
            return Encoded(_gather(value.schema, value.to_batches()))
        case 8:
            table = pa.Table.from_pandas(value, nthreads=1)
            return Encoded(_gather(table.schema, table.to_batches()))
        case 9:
            sink = io.BytesIO()
            value.write_ipc_stream(sink)
            return Encoded((sink.getbuffer(),))
        case 10:
            return Encoded(_array_pieces(value))
        case 11:
            return Encoded(_gather(value[0].schema, value))
    raise AssertionError(f"kind {kind}")


def decode(kind: int, payload: Buffer, context: tuple[Any, ...] = ()) -> Any:
    """The value again. Arrow values and arrays look into `payload` without copying it. Pure; runs in any thread."""
    match kind:
        case 1:
            return payload if isinstance(payload, bytes) else bytes(payload)
        case 2:
            return str(payload, "utf-8")
        case 3:
            return msgspec.msgpack.decode(payload)
        case 4:
            return trees.decode(payload, context)
        case 5:
            return pa.ipc.read_record_batch(pa.py_buffer(payload), context[0])
        case 6:
            return pa.ipc.open_stream(pa.py_buffer(payload)).read_next_batch()
        case 7:
            return pa.ipc.open_stream(pa.py_buffer(payload)).read_all()
        case 8:
            return pa.ipc.open_stream(pa.py_buffer(payload)).read_all().to_pandas(use_threads=False)
        case 9:
            import polars

            return polars.read_ipc_stream(bytes(payload))
        case 10:
            return _array(payload)
        case 11:
            return list(pa.ipc.open_stream(pa.py_buffer(payload)))
    raise UnsupportedType(f"stored bytes are of kind {kind}, which this version does not know")


def copied(value: Any) -> Any:
    """A value of the same kind that shares nothing with this one which anybody could change."""
    kind = kind_of(value)
    if kind in (RAW, TEXT):
        return value
    encoded = encode(value, kind)
    payload = b"".join(memoryview(piece).cast("B") for piece in encoded.pieces if len(piece))
    return decode(kind, pa.py_buffer(payload), encoded.context)


def has_dictionaries(schema: pa.Schema) -> bool:
    """Whether a column holds dictionary-encoded values, which a single message cannot carry."""
    return any(_is_dictionary(field.type) for field in schema)


def _is_dictionary(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.DictionaryType):
        return True
    if isinstance(kind, pa.BaseExtensionType):
        return _is_dictionary(kind.storage_type)
    return any(_is_dictionary(kind.field(index).type) for index in range(kind.num_fields))


class _Gatherer(io.RawIOBase):
    """A file that keeps the buffers it is given instead of copying them."""

    def __init__(self) -> None:
        self.pieces: list[Buffer] = []

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self.pieces.append(piece)
        return len(piece)


def _gather(schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> list[Buffer]:
    if len(batches) > 1 and sum(batch.get_total_buffer_size() for batch in batches) < len(batches) * GATHER_BYTES:
        copied = pa.BufferOutputStream()
        with pa.ipc.new_stream(copied, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        return [copied.getvalue()]
    sink = _Gatherer()
    with pa.ipc.new_stream(pa.PythonFile(sink, "w"), schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.pieces


def _gather_message(batch: pa.RecordBatch) -> list[Buffer]:
    """The record batch message alone, cut out of a stream: the schema message before it, the end mark after it."""
    sink = _Gatherer()
    writer = pa.ipc.new_stream(pa.PythonFile(sink, "w"), batch.schema)
    writer.write_batch(pa.RecordBatch.from_pylist([], schema=batch.schema))
    start = len(sink.pieces)
    writer.write_batch(batch)
    pieces = sink.pieces[start:]
    writer.close()
    return pieces


def _array_pieces(array: np.ndarray[Any, Any]) -> list[Buffer]:
    head = io.BytesIO()
    fields = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_2_0(head, fields)
    flat: Any = array.ravel(order="F" if fields["fortran_order"] else "C")
    return [head.getvalue(), memoryview(flat.view(np.uint8))]


def _array(payload: Buffer) -> np.ndarray[Any, Any]:
    view = memoryview(payload)
    head = io.BytesIO(view[:65536])
    np.lib.format.read_magic(head)
    shape, fortran, dtype = np.lib.format.read_array_header_2_0(head)
    count = int(np.prod(shape, dtype=np.int64))
    flat = np.frombuffer(view, dtype=dtype, count=count, offset=head.tell())
    array = flat.reshape(shape, order="F" if fortran else "C")
    array.flags.writeable = False
    return array


def _check_pandas(frame: Any) -> None:
    """Object columns may hold anything; those Arrow does not bring back as they were are refused now, not later."""
    try:
        schema = pa.Schema.from_pandas(frame)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError, ValueError) as error:
        raise UnsupportedType(f"the pandas frame has no Arrow form: {error}") from error
    if len(schema.names) != len(set(schema.names)):
        raise UnsupportedType("the pandas frame has two columns of one name")
    if not any(dtype.kind == "O" for dtype in (*frame.dtypes, frame.index.dtype)):
        return
    again = pa.Table.from_pandas(frame, nthreads=1).to_pandas(use_threads=False)
    if not (frame.dtypes.equals(again.dtypes) and frame.equals(again)):
        changed = [str(name) for name in frame.columns if not frame[name].equals(again[name])]
        raise UnsupportedType(
            f"columns {changed or 'of dtype object'} of the pandas frame do not survive the way through Arrow; "
            "give them a type"
        )


def _check_polars(frame: Any) -> None:
    for name, dtype in frame.schema.items():
        if "Object" in str(dtype):
            raise UnsupportedType(f"column {name!r} of the polars frame holds Python objects")
