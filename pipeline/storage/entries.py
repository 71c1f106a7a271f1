"""What a line of the manifest says: one committed fact, as JSON behind its checksum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal
from zlib import crc32

import msgspec

from ..errors import StorageFailed

FORMAT: Final = 1
"""Version of a folder's layout: manifest, journal, checkpoints."""

Kind = Literal["snap", "add", "remove", "trim", "checkpoint", "phase"]


class Mark(msgspec.Struct, frozen=True, array_like=True, order=True):
    """A place in the journal, between two records."""

    segment: int
    offset: int


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One line. What does not apply is left out; `v`, `seq`, `epoch`, `part` and `synced` are the manifest's own.

    - `snap`: all that is committed (`live`), always the first line of a file and only there.
    - `add`: `file` (relative to the root, with `/`) is there with `bytes` and `xxh3`. Adding it again replaces that.
    - `remove`: `file` is no longer there; without `file`, nothing of `phase` is.
    - `trim`: the journal's records of `container` up to `gen` are dead.
    - `checkpoint`: `phase` can go on from `file`; replaces the one before.
    - `phase`: it is complete. Its checkpoint is void.
    """

    v: int = 0
    seq: int = 0
    """Number of the line, counted through all manifests of the folder."""
    epoch: int = 0
    """Of the process that committed it: each one that opens the folder has the next."""
    kind: Kind
    part: tuple[int, int] | None = None
    """(number, of how many) where several lines are one commit: all of them count, or none."""
    synced: int | None = None
    """Last line known to be on disk when this was written; None: all before this commit."""
    phase: str | None = None
    container: str | None = None
    file: str | None = None
    bytes: int | None = None
    """Length of the file; None for a segment that is still written."""
    rows: int | None = None
    xxh3: str | None = None
    """Sixteen hexadecimal digits of the file's xxh3-64."""
    schema_fp: str | None = None
    min_ts: int | None = None
    max_ts: int | None = None
    batch_id: tuple[str, int, int] | None = None
    offsets: Mapping[str, int] | None = None
    """Of a checkpoint: rows by feed. Of a segment: highest generation by container."""
    gen: int | None = None
    """Of a trim: the last dead generation. Of a segment: the epoch of its records."""
    mark: Mark | None = None
    """Of a checkpoint: what of the journal belongs to it."""
    live: tuple[Entry, ...] = ()
    next_segment: int | None = None
    """In a snap: the number of the journal's next segment; none is ever given twice."""

    @property
    def first(self) -> int:
        """Number of the first line of its commit."""
        return self.seq if self.part is None else self.seq - self.part[0] + 1

    @property
    def ends_commit(self) -> bool:
        return self.part is None or self.part[0] == self.part[1]

    @property
    def known_synced(self) -> int:
        """The last line that was on disk when this was written."""
        return self.first - 1 if self.synced is None else self.synced


class _Version(msgspec.Struct):
    v: int = 0


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode
_decode_all = msgspec.json.Decoder(list[Entry]).decode


def encode_line(entry: Entry) -> bytes:
    body = _encode(entry)
    return b"%08x %b\n" % (crc32(body), body)


def decode_line(line: bytes | memoryview, where: str = "the manifest") -> Entry | None:
    """The entry of a line without its LF, None for one that is damaged; raises `StorageFailed` for a newer format."""
    body = line[9:]
    if line[:9] != b"%08x " % crc32(body):
        return None
    try:
        entry = _decode(body)
    except msgspec.DecodeError:
        _refuse_newer(body, where)
        return None
    if entry.v != FORMAT:
        _refuse_newer(body, where)
        return None
    return entry if _are_inside((entry,)) and _are_inside(entry.live) else None


def decode_lines(lines: Sequence[bytes], where: str) -> Sequence[Entry | None]:
    """As `decode_line` of each; all at once where none is damaged, which is three times as fast."""
    bodies = [line[9:] for line in lines]
    if [b"%08x " % check for check in map(crc32, bodies)] == [line[:9] for line in lines]:
        try:
            entries = _decode_all(b"[%b]" % b",".join(bodies))
        except msgspec.DecodeError:
            entries = []
        known = all(entry.v == FORMAT and not entry.live for entry in entries)
        if len(entries) == len(lines) and known and _are_inside(entries):
            return entries
    return [decode_line(line, where) for line in lines]


def _are_inside(entries: Sequence[Entry]) -> bool:
    """Whether every file that these name lies below the root: recovery moves and removes such files.

    All paths are looked at as one text, and one by one where it has what a file outside would need.
    """
    files = [entry.file for entry in entries if entry.file is not None]
    text = "\0".join(("", *files, ""))
    if ".." not in text and "\0/" not in text and "\0\0" not in text:
        return not files or text.count("\0") == len(files) + 1
    return not any(file[:1] in ("", "/") or ".." in file.split("/") or "\0" in file for file in files)


def _refuse_newer(body: bytes | memoryview, where: str) -> None:
    try:
        version = msgspec.json.decode(body, type=_Version).v
    except msgspec.DecodeError:
        return
    if version > FORMAT:
        raise StorageFailed(
            f"{where} is of format {version}, and this version of Penstock reads formats up to {FORMAT}; "
            "use the version that wrote it, or choose another --output"
        )


def stamped(entry: Entry, **own: Any) -> Entry:
    """The entry with the manifest's own fields."""
    return msgspec.structs.replace(entry, v=FORMAT, **own)
