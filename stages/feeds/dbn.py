"""Reads Databento's DBN files, plain or .zst, through Databento's own library, the extra `dbn`.

What becomes of which kind of record is told in `dbn_columns`. Files are read as the first kind that their first record
can be; `schema` picks another. Instruments are named by the symbols in the files' headers and by their data set:
`ESH1.GLBX` of GLBX.MDP3. Prices have 9 decimal places and sizes none, as in the files, unless declared.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import InputError
from stages.schemas import Scales, schema_of

from .counts import Counts
from .dbn_columns import KINDS_OF, PLACES, columns_of
from .dbn_layout import ENDINGS, dbn_files
from .dbn_symbols import Symbols
from .declaration import Declaration
from .recording import Recording
from .standardizing import Standardizer
from .text import Where

READ_BYTES = 1 << 20
MOST_HELD = 65_536
"""Records of one group that are kept together; a longer one is cut."""
INSTALL = "pip install 'penstock[dbn]'"
_ZSTD = b"\x28\xb5\x2f\xfd"
_LAST = 128
_TOLD = {"SymbolMappingMsg", "SystemMsg"}
"""Records that are about the stream."""


def open_dbn(path: Path, declared: Declaration) -> Recording:
    """The recording of DBN files; reads them up to their first record. Raises `InputError`."""
    files = dbn_files(path)
    if not files:
        raise InputError(f"{path}: expected DBN files ({' '.join(ENDINGS)}), found none; check the path")
    kind = _kind(files, declared)
    prices = PLACES if declared.scale is None else declared.scale
    schema = schema_of(kind, Scales(prices, declared.size_scale or 0))

    def read(counts: Counts) -> Iterator[pa.RecordBatch]:
        standard = Standardizer(schema, counts, sources=[file.name for file in files])
        for place, file in enumerate(files):
            standard.open(place)
            symbols = None
            for records, where in _runs(file, whole_groups=kind == "book_delta"):
                name = type(records[0]).__name__
                if name == "Metadata":
                    symbols = Symbols(records[0])
                elif name == "SymbolMappingMsg" and symbols is not None:
                    symbols.learn(records)
                elif kind in KINDS_OF.get(name, ()) and symbols is not None:
                    made = columns_of(kind, records, symbols, schema, where, counts)
                    if len(made["instrument_id"]):
                        yield standard.batch(made, where)
                elif name not in _TOLD:
                    counts.leave_out(f"a record of another kind ({name})", len(records), where.place(0))

    return Recording(schema, tuple(files), read)


def _kind(files: list[Path], declared: Declaration) -> str:
    """The kind of record that all files are read as: declared, or what the first record can be."""
    for file in files:
        metadata: Any = None
        for records, _ in _runs(file, whole_groups=False):
            name = type(records[0]).__name__
            if name == "Metadata":
                metadata = records[0]
            elif name not in _TOLD:
                return _chosen(file, name, str(metadata.schema), declared)
        if str(metadata.schema).startswith("ohlcv"):
            return _chosen(file, "OHLCVMsg", "", declared)
    raise InputError(f"{files[0]}: expected records, found none; read another file")


def _chosen(file: Path, name: str, schema: str, declared: Declaration) -> str:
    kinds = KINDS_OF.get(name, ())
    if schema == "tbbo":
        kinds = kinds[::-1]
    if declared.schema != "auto":
        kinds = tuple(kind for kind in kinds if kind == declared.schema)
    if not kinds:
        known = ", ".join(f"{one} as {' or '.join(as_kinds)}" for one, as_kinds in KINDS_OF.items())
        wanted = "" if declared.schema == "auto" else f" that can be of kind {declared.schema}"
        raise InputError(f"{file}: expected records{wanted}, found {name}; these are read: {known}")
    return kinds[0]


def _runs(file: Path, *, whole_groups: bool) -> Iterator[tuple[list[Any], Where]]:
    """Records of one type at a time, the header first; with `whole_groups`, cut only after one that ends a group."""
    first = 1
    held: list[Any] = []
    for part, ended in _parts(file):
        records = [*held, *part]
        held = []
        if whole_groups and not ended:
            end = next((at for at in range(len(records), 0, -1) if _ends_group(records[at - 1])), 0)
            end = end or (len(records) if len(records) > MOST_HELD else 0)
            records, held = records[:end], records[end:]
        for _, run in groupby(records, key=type):
            rows = list(run)
            yield rows, Where(file, first)
            first += len(rows) if type(rows[0]).__name__ != "Metadata" else 0


def _ends_group(record: Any) -> bool:
    return bool(getattr(record, "flags", _LAST) & _LAST)


def _parts(file: Path) -> Iterator[tuple[list[Any], bool]]:
    """What the library makes of piece after piece of a file, and whether it is the last."""
    library = _library()
    decoder = library.DBNDecoder()
    done = 0
    try:
        with file.open("rb") as head:
            packed = "zstd" if head.read(4) == _ZSTD else None
        with pa.input_stream(str(file), compression=packed) as stream:
            while piece := stream.read(READ_BYTES):
                records = decoder.write_and_decode(piece)
                done += len(records)
                yield records, False
    except (OSError, library.DBNError) as error:
        raise InputError(
            f"{file}: expected a complete DBN file, found damage after {max(done - 1, 0):,} records ({error}); "
            "fetch the file again"
        ) from error
    if not done or decoder.buffer():
        raise InputError(
            f"{file}: expected a complete DBN file, found its end within "
            f"{'its header' if not done else f'record {done}'}; fetch the file again"
        )
    yield [], True


def _library() -> Any:
    try:
        import databento_dbn
    except ImportError as error:
        raise InputError(
            f"expected the package databento-dbn for DBN files, found it not installed; {INSTALL}"
        ) from error
    return databento_dbn
