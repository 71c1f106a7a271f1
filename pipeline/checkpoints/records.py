"""A checkpoint as records and back: one for its head, one for each container; plain values, nothing is executed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from ..errors import StateMismatch, UnsupportedType
from ..frames import Batch, Stored, Watermark
from ..storage import trees
from ..storage.codecs import Buffer
from .cuts import FORMATS, Checkpoint, ContainerCut, InboxCut, LaneCut

HEAD = b""
"""Key of the record that tells whose checkpoint this is; the others' is the container's name."""


def encode_checkpoint(
    checkpoint: Checkpoint, told: Mapping[str, Any], stored: list[Stored] | None = None
) -> list[tuple[bytes, list[Buffer]]]:
    """Keys and payloads of the records; `told` must be equal where it is resumed from. Raises `UnsupportedType`.

    Large arrays are records behind that of their container, under the same key, and are not copied.

    Batches on a disk are gathered in `stored`; each is to become a record beside these, see `encode_frame`.
    """
    stored = [] if stored is None else stored
    cuts = {name: _plain_cut(cut, stored) for name, cut in checkpoint.containers.items()}
    records: list[tuple[bytes, list[Buffer]]] = []
    for name, cut in cuts.items():
        aside: trees.Aside = []
        try:
            records.append((name.encode(), [trees.encode(cut, [], aside)]))
        except UnsupportedType as error:
            raise UnsupportedType(f"the state of '{name}' cannot be written: {error}") from error
        records += [(name.encode(), list(trees.aside_pieces(array))) for array in aside]
    head = {
        "format": FORMATS[2 if len(records) > len(cuts) else bool(stored)],
        "told": dict(told),
        "phase": checkpoint.phase,
        "number": checkpoint.number,
        "every_seconds": checkpoint.every_seconds,
        "mark": msgspec.to_builtins(checkpoint.mark),
        "containers": list(checkpoint.containers),
    }
    return [(HEAD, [trees.encode(head, [])]), *records]


def decode_checkpoint(
    records: Iterable[tuple[bytes, Any]], told: Mapping[str, Any], stored: Sequence[Stored] = ()
) -> Checkpoint:
    """The checkpoint again; raises `StateMismatch` for one of another version, or of what is told otherwise.

    `stored` are the batches in records of their own, in the order in which they were gathered.
    """
    found: dict[bytes, list[Any]] = {}
    for key, payload in records:
        found.setdefault(key, []).append(payload)
    if HEAD not in found:
        raise StateMismatch("expected a record that tells whose checkpoint it is, found none")
    head = trees.decode(found[HEAD][0], ())
    if head["format"] not in FORMATS:
        raise StateMismatch(f"expected a checkpoint of version {FORMATS[-1]}, found version {head['format']}")
    for name in sorted({*told, *head["told"]}):
        expected, given = told.get(name), head["told"].get(name)
        if expected != given:
            raise StateMismatch(f"expected a checkpoint with {name} {expected!r}, found {given!r}")
    missing = [name for name in head["containers"] if name.encode() not in found]
    if missing:
        raise StateMismatch(f"expected a record for each container, found none for {', '.join(missing)}")
    return Checkpoint(
        phase=head["phase"],
        number=head["number"],
        every_seconds=head["every_seconds"],
        mark=head["mark"],
        containers={name: _cut_of(_decoded(found[name.encode()]), stored) for name in head["containers"]},
    )


def _decoded(records: list[Any]) -> dict[str, Any]:
    """What a container's record holds, whose large arrays follow it."""
    plain: dict[str, Any] = trees.decode(records[0], (), records[1:])
    return plain


def _plain_cut(cut: ContainerCut, stored: list[Stored]) -> dict[str, Any]:
    plain = msgspec.structs.asdict(cut)
    if cut.inbox is not None:
        lanes = [
            {
                **msgspec.structs.asdict(lane),
                "head": None if lane.head is None else plain_frame(lane.head),
                "frames": [_plain_under_way(frame, stored) for frame in lane.frames],
            }
            for lane in cut.inbox.lanes
        ]
        plain["inbox"] = {**msgspec.structs.asdict(cut.inbox), "lanes": lanes}
    return plain


def _plain_under_way(frame: Batch | Watermark | Stored, stored: list[Stored]) -> list[Any]:
    if isinstance(frame, Batch | Watermark):
        return plain_frame(frame)
    stored.append(frame)
    return [len(stored) - 1]


def _cut_of(plain: dict[str, Any], stored: Sequence[Stored]) -> ContainerCut:
    inbox = plain["inbox"]
    if inbox is not None:
        lanes = [
            LaneCut(
                **{
                    **lane,
                    "head": None if lane["head"] is None else frame_of(lane["head"]),
                    "frames": [stored[frame[0]] if len(frame) == 1 else frame_of(frame) for frame in lane["frames"]],
                }
            )
            for lane in inbox["lanes"]
        ]
        plain["inbox"] = InboxCut(**{**inbox, "lanes": lanes})
    return ContainerCut(**plain)


# -- frames as plain values ----------------------------------------------------------------------------------------


def encode_frame(frame: Batch | Watermark) -> bytes:
    """One batch or watermark by itself."""
    return trees.encode(plain_frame(frame), [])


def decode_frame(payload: Any) -> Batch | Watermark:
    """The frame again. Raises `StateMismatch` where the class of its rows is not there."""
    return frame_of(trees.decode(payload, ()))


def plain_frame(frame: Batch | Watermark) -> list[Any]:
    """Columns as they are; rows with the name of their class, or as columns where it cannot be found by its name."""
    if isinstance(frame, Watermark):
        return [frame.ts, frame.idle]
    return [frame.source, frame.first_seq, *_content(frame)]


def frame_of(plain: list[Any]) -> Batch | Watermark:
    """What `plain_frame` was given."""
    if len(plain) == 2:
        return Watermark(*plain)
    source, first_seq, kind, content = plain
    rows = None if kind is None else [_row_class(kind)(*row) for row in content]
    return Batch(content if rows is None else None, rows, source=source, first_seq=first_seq)


def _content(batch: Batch) -> tuple[str | None, Any]:
    if not batch.is_rows:
        return None, batch.columns
    rows = list(batch.rows)
    kind = type(rows[0])
    name = f"{kind.__module__}:{kind.__qualname__}"
    if any(type(row) is not kind for row in rows) or _find(name) is not kind:
        return None, batch.columns
    return name, [list(msgspec.structs.astuple(row)) for row in rows]


def _row_class(name: str) -> type[msgspec.Struct]:
    found = _find(name)
    if found is None:
        raise StateMismatch(f"expected the class {name}, whose rows were under way, found none")
    return found


def _find(name: str) -> type[msgspec.Struct] | None:
    """A class of a module that is loaded; nothing is imported for the sake of a file."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, msgspec.Struct) else None
