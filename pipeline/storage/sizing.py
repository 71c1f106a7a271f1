"""What a value weighs in memory, in bytes, and how to keep a small slice from pinning a big parent."""

from __future__ import annotations

import datetime
import sys
import uuid
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from ..errors import UnsizedValue

ENTRY_BYTES = 200
"""Charged per entry for the bookkeeping around the value."""
EXACT_NODES = 10_000
"""Collections of up to this many nodes are walked exactly, bigger ones are sampled."""
SAMPLE_NODES = 1_000
"""Children of one node that are looked at in a sampled collection."""
SMALL_NODES = 100
"""Sampled children of up to this many nodes are walked exactly."""
SAMPLE_FACTOR = 1.5
"""What a sampled size is multiplied by, so that skewed data is not undercharged."""
SLACK_BYTES = 64 << 10

_LEAVES = (
    type(None), bool, int, float, complex, str, bytes, bytearray,
    Decimal, datetime.datetime, datetime.date, datetime.time, datetime.timedelta, uuid.UUID, np.generic,
)  # fmt: skip

_PLAIN = frozenset({type(None), bool, int, float, str, bytes})
"""Most leaves by far, known without asking further."""


def size_of(value: Any) -> int:
    """Bytes `value` keeps alive, plus `ENTRY_BYTES`; raises `UnsizedValue` for an object it cannot look into."""
    return ENTRY_BYTES + _size(value)


def compact(value: Any) -> Any:
    """The value, copied if it is a slice that keeps alive much more than it shows."""
    if isinstance(value, pa.RecordBatch | pa.Table):
        held = value.get_total_buffer_size()
        if held > SLACK_BYTES and held > 1.25 * value.nbytes + SLACK_BYTES:
            return _copied(value)
    elif isinstance(value, np.ndarray) and value.base is not None and 2 * value.nbytes < _array_bytes(value):
        return value.copy(order="K")
    return value


def _copied(value: pa.RecordBatch | pa.Table) -> pa.RecordBatch | pa.Table:
    """A copy that owns only its rows; a stream writes what a slice shows, and reads back as one block.

    The block is made in its size: one that grows while it is written ends up to twice as large as what is in it.
    """
    measure = pa.MockOutputStream()
    _write_stream(measure, value)
    block = pa.allocate_buffer(measure.size())
    _write_stream(pa.FixedSizeBufferWriter(block), value)
    reader = pa.ipc.open_stream(block)
    if isinstance(value, pa.Table):
        return reader.read_all()
    try:
        return reader.read_next_batch()
    except StopIteration:
        return value


def _write_stream(sink: Any, value: pa.RecordBatch | pa.Table) -> None:
    with pa.ipc.new_stream(sink, value.schema) as writer:
        writer.write(value)


def _size(value: Any) -> int:
    known = _known_size(value)
    if known is not None:
        return known
    exact = _walk(value, set(), EXACT_NODES)
    return exact if exact is not None else int(SAMPLE_FACTOR * _sampled(value, SAMPLE_NODES, set()))


def _known_size(value: Any) -> int | None:
    """Size of everything that is not a collection of Python objects."""
    if isinstance(value, pa.RecordBatch | pa.Table):
        return int(value.get_total_buffer_size())
    if isinstance(value, np.ndarray):
        return _array_bytes(value)
    if isinstance(value, _LEAVES):
        return sys.getsizeof(value)
    if _is_frame(value, "pandas"):
        return int(value.memory_usage(index=True, deep=True).sum())
    if _is_frame(value, "polars"):
        return int(value.estimated_size())
    return None


def _array_bytes(array: np.ndarray[Any, Any]) -> int:
    """Bytes of the array that owns the memory, which a view keeps alive."""
    base: Any = array
    while isinstance(base.base, np.ndarray):
        base = base.base
    return sys.getsizeof(array) + (base.nbytes if base is not array or base.base is not None else 0)


def _walk(value: Any, seen: set[int], nodes: int) -> int | None:
    """Exact size of what is not in `seen` yet, each object counted once; None above so many nodes."""
    stack = [value]
    total = 0
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        nodes -= 1
        if nodes < 0:
            return None
        if type(node) in _PLAIN:
            total += sys.getsizeof(node)
            continue
        known = _known_size(node)
        if known is not None:
            total += known
            continue
        count, children = _children(node)
        if count > nodes + 1:
            return None
        total += sys.getsizeof(node)
        stack.extend(children)
    return total


def _sampled(node: Any, budget: int, seen: set[int]) -> float:
    """Estimated size: at every level evenly spaced children stand for all of them; what they share counts once."""
    known = _known_size(node)
    if known is not None:
        return known
    count, children = _children(node)
    own = float(sys.getsizeof(node))
    if count == 0:
        return own
    taken = max(1, min(count, budget))
    stride = count // taken
    sample: Iterable[Any] = children[::stride] if isinstance(children, Sequence) else islice(children, 0, None, stride)
    sizes = []
    for child in sample:
        exact = _walk(child, seen, SMALL_NODES)
        sizes.append(_sampled(child, budget // taken, seen) if exact is None else exact)
    return own + count * sum(sizes) / len(sizes)


def _children(node: Any) -> tuple[int, Iterable[Any]]:
    if isinstance(node, list | tuple):
        return len(node), node
    if isinstance(node, dict):
        # A key and its value are sampled as a pair, because neither says anything about the other.
        return 2 * len(node), (part for item in node.items() for part in item)
    if isinstance(node, msgspec.Struct):
        fields = msgspec.structs.astuple(node)
        return len(fields), fields
    if isinstance(node, set | frozenset):
        return len(node), node
    raise UnsizedValue(
        f"cannot know the size of a {type(node).__module__}.{type(node).__qualname__}; pass size= in bytes, "
        "or store an Arrow batch, a frame, a numpy array, bytes, str, a struct, a dict or a list"
    )


def _is_frame(value: Any, library: str) -> bool:
    """Whether value is a DataFrame of a library, asked without importing the library."""
    kind = type(value)
    return kind.__name__ == "DataFrame" and kind.__module__.partition(".")[0] == library
