"""Reads what a run has left in its folder."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import aiofiles
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .data.persisting import CONTAINER
from .errors import InputError
from .folder import (
    CONTAINERS,
    SUMMARY,
    damaged_summary,
    is_published,
    no_folder,
    published_phases,
    read_record,
    read_summary,
)
from .summary import PhaseSummary


class PhaseResults:
    """The results of one phase: `results["portfolio_0042"]["equity"]` is a table. All methods block.

    Of each file of a group the row group that was read last is kept, at most some 16 MiB: members asked for in order
    are read once.
    """

    def __init__(self, folder: Path, summary: PhaseSummary) -> None:
        self.folder, self.summary = folder, summary
        self._shared: dict[Path, MemberFile] = {}

    def __repr__(self) -> str:
        held = {name: sorted(result.keys) for name, result in self.summary.container_results.items()}
        return f"PhaseResults({str(self.folder)!r}, {held})"

    def __iter__(self) -> Iterator[str]:
        return iter(self.summary.container_results)

    @property
    def record(self) -> dict[str, Any]:
        """What was measured on the way (`run.json`); empty where it cannot be read."""
        return read_record(self.folder)

    def keys(self) -> list[str]:
        """Names of the containers; members of a group are asked for by their own names."""
        return list(self.summary.container_results)

    def members(self, group: str | None = None) -> Mapping[str, ContainerResults]:
        """Results by member, of one group or of all, in order of name; nothing is read before it is asked for.

        Raises KeyError where there is no such container; one that is no group has no members.
        """
        if group is not None and group not in self.summary.container_results:
            raise KeyError(self._unknown(group))
        return Members(self, [name for name, of in self._group_of.items() if group in (None, of)])

    def all(self, key: str) -> pa.Table:
        """One key of all groups in one table, such as `statistics` or `fills`, its column `container` saying whose.

        Columns that a group lacks are null. Raises KeyError where no group has left this key.
        """
        found = {name: self._files(name) or {} for name in dict.fromkeys(self._group_of.values())}
        tables = [_table(files[key]) for files in found.values() if key in files]
        if not tables:
            held = sorted({other for files in found.values() for other in files})
            raise KeyError(f"no group has persisted '{key}'; they have {', '.join(held) or 'nothing'}")
        return pa.concat_tables(tables, promote_options="permissive")

    def __getitem__(self, container: str) -> ContainerResults:
        """Results of a container, of a whole group, or of a member of a group; KeyError when there is none."""
        files = self._files(container)
        if files is not None:
            return ContainerResults(container, files)
        group = self._group_of.get(container)
        files = self._files(group) if group is not None else None
        if not files:
            raise KeyError(self._unknown(container))
        shared = {key: self._shared.setdefault(path, MemberFile(path)) for key, path in files.items()}
        return ContainerResults(container, files, shared)

    @cached_property
    def _group_of(self) -> dict[str, str]:
        """Member -> its group, in order of name, as `containers.parquet` has it."""
        try:
            table = pq.read_table(self.folder / CONTAINERS, columns=["name", "group"])
        except (OSError, pa.ArrowException):
            return {}
        rows = zip(table.column("name").to_pylist(), table.column("group").to_pylist(), strict=True)
        return dict(sorted((name, group) for name, group in rows if group is not None))

    def _unknown(self, name: str) -> str:
        known = [*self.summary.container_results, *self._group_of]
        near = difflib.get_close_matches(name, known, n=1)
        counted: dict[str, list[str]] = {}
        for member, group in self._group_of.items():
            counted.setdefault(group, []).append(member)
        groups = "".join(
            f"; members of {group} are {members[0]} to {members[-1]}" for group, members in counted.items()
        )
        return (
            f"'{name}' has left nothing in {self.folder}: there is no such container, or its "
            f"persistence.on_completion is false; there are {', '.join(self.summary.container_results)}{groups}"
            + (f"; did you mean '{near[0]}'?" if near and near[0] != name else "")
        )

    def _files(self, name: str) -> dict[str, Path] | None:
        result = self.summary.container_results.get(name)
        if result is None:
            return None
        files = {key: self.folder / kept.path for key, kept in result.keys.items() if kept.path is not None}
        output = read_record(self.folder).get("containers", {}).get(name, {}).get("kept_output")
        if output and output["path"]:
            files[output["key"]] = self.folder / output["path"]
        return files


class Members(Mapping[str, "ContainerResults"]):
    """The members of a group, or of all groups, by name."""

    def __init__(self, results: PhaseResults, names: Sequence[str]) -> None:
        self._results, self._names = results, dict.fromkeys(names)

    def __getitem__(self, name: str) -> ContainerResults:
        if name not in self._names:
            raise KeyError(self._results._unknown(name))
        return self._results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        names = list(self._names)
        return f"Members({names[0]} to {names[-1]})" if names else "Members()"


class ContainerResults(Mapping[str, pa.Table]):
    """Key -> table of one container; a member of a group sees its own rows. `one.equity` is `one["equity"]`.

    Raises `InputError` where the file is missing or damaged.
    """

    def __init__(self, name: str, files: Mapping[str, Path], shared: Mapping[str, MemberFile] | None = None) -> None:
        self.name, self.files, self._shared = name, files, shared

    def __getitem__(self, key: str) -> pa.Table:
        if key not in self.files:
            near = difflib.get_close_matches(str(key), self.files, n=1)
            raise KeyError(
                f"'{self.name}' has persisted no '{key}'; it has {', '.join(self.files) or 'nothing'}"
                + (f"; did you mean '{near[0]}'?" if near else "")
            )
        return _table(self.files[key]) if self._shared is None else self._shared[key].rows_of(self.name)

    def __getattr__(self, key: str) -> pa.Table:
        if key.startswith("_"):
            raise AttributeError(key)
        try:
            return self[key]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __repr__(self) -> str:
        return f"ContainerResults({self.name!r}, {sorted(self.files)})"

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What Arrow says of a file that is no longer as it was published is told with the file's name."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        what = "is gone" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
        raise InputError(f"{path} {what}; run its configuration again, with --force, to have it back") from error


def _table(path: Path) -> pa.Table:
    with _reading(path):
        return pq.read_table(path)


class MemberFile:
    """One key of all members of a group, sorted by `container`: only the row groups that can hold a member are read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last: tuple[int, pa.Table, dict[str, tuple[int, int]]] | None = None

    def rows_of(self, member: str) -> pa.Table:
        """A member's rows, without their first column; none where it has kept nothing under this key.

        Raises `InputError` where the file is missing or damaged.
        """
        with _reading(self.path):
            return self._rows_of(member)

    def _rows_of(self, member: str) -> pa.Table:
        parts = []
        for number, (first, last) in enumerate(self._spans):
            if first <= member <= last:
                table, runs = self._group(number)
                begin, rows = runs.get(member, (0, 0))
                parts.append(table.slice(begin, rows))
        if not parts:
            return self._schema.empty_table()
        return pa.concat_tables(parts)

    @cached_property
    def _schema(self) -> pa.Schema:
        schema = pq.read_schema(self.path)
        return schema.remove(schema.get_field_index(CONTAINER))

    @cached_property
    def _metadata(self) -> pq.FileMetaData:
        return pq.read_metadata(self.path)

    @cached_property
    def _spans(self) -> list[tuple[str, str]]:
        """First and last member of each row group, as its statistics say."""
        place = self._metadata.schema.names.index(CONTAINER)
        spans = []
        for number in range(self._metadata.num_row_groups):
            told = self._metadata.row_group(number).column(place).statistics
            spans.append((told.min, told.max) if told is not None and told.has_min_max else ("", chr(0x10FFFF)))
        return spans

    def _group(self, number: int) -> tuple[pa.Table, dict[str, tuple[int, int]]]:
        """A row group, and where in it each member's rows begin and how many they are."""
        if self._last is None or self._last[0] != number:
            with pq.ParquetFile(self.path, metadata=self._metadata, read_dictionary=[CONTAINER]) as file:
                table = file.read_row_group(number)
            names = table.column(CONTAINER).combine_chunks()
            codes = names.indices.to_numpy()
            begins = np.flatnonzero(np.append(True, codes[1:] != codes[:-1])) if len(codes) else np.zeros(0, np.int64)
            ends = [*begins[1:].tolist(), len(codes)]
            words = names.dictionary.to_pylist()
            runs = {words[codes[begin]]: (begin, end - begin) for begin, end in zip(begins.tolist(), ends, strict=True)}
            self._last = number, table.drop_columns([CONTAINER]), runs
        return self._last[1], self._last[2]


def open_results(path: str | Path, phase: str | None = None) -> PhaseResults:
    """The results in a run's folder, a phase's folder, or `<output>/<name>` (its latest run).

    Without `phase` the only one there is, or the one that was completed last. Raises `InputError` where there is none,
    or where its summary is damaged.
    """
    root = Path(path)
    if not root.exists():
        raise no_folder(root)
    for base in (root, root / "latest"):
        if (base / SUMMARY).is_file() and is_published(base):
            summary = read_summary(base)
            if summary is not None:
                return PhaseResults(base, summary)
            raise damaged_summary(base)
        phases = [folder for folder in published_phases(base) if phase in (None, folder.name)]
        if phases:
            folder = phases[-1]
            summary = read_summary(folder)
            if summary is not None:
                return PhaseResults(folder, summary)
            raise damaged_summary(folder)
    raise InputError(f"{root} holds no phase summary; expected a run's folder such as results/<name>/latest")


async def load_summary(phase: str | Path) -> PhaseSummary:
    """The summary in a phase's folder, such as `results/demo/latest/run`, read without blocking the event loop.

    For services that watch what other processes publish. Raises `InputError` where there is none, or none we can read.
    """
    path = Path(phase) / SUMMARY
    try:
        if not await asyncio.get_running_loop().run_in_executor(None, is_published, path.parent):
            raise InputError(f"{path.parent} has not completed: the summary in it is not committed")
        async with aiofiles.open(path, "rb") as file:
            return msgspec.json.decode(await file.read(), type=PhaseSummary)
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}; a phase that has not completed has no summary"
        ) from error
    except msgspec.DecodeError as error:
        raise InputError(f"{path} is no summary of this version: {error}") from error
