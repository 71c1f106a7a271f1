"""Reads what a run has left in its folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import aiofiles
import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .errors import InputError
from .folder import CONTAINERS, SUMMARY, read_record, read_summary
from .summary import PhaseSummary


class PhaseResults:
    """The results of one phase: `results["portfolio_0042"]["equity"]` is a table. All methods block."""

    def __init__(self, folder: Path, summary: PhaseSummary) -> None:
        self.folder, self.summary = folder, summary

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

    def __getitem__(self, container: str) -> ContainerResults:
        """Results of a container, of a whole group, or of a member of a group; KeyError when there is none."""
        files = self._files(container)
        if files is not None:
            return ContainerResults(container, files)
        group = self._group_of(container)
        if group is not None:
            member = ContainerResults(container, self._files(group) or {}, member=container)
            if any(member.has_rows(key) for key in member):
                return member
        raise KeyError(
            f"'{container}' has left nothing in {self.folder}: there is no such container, or its "
            f"persistence.on_completion is false; there are {', '.join(self.summary.container_results)}"
        )

    def _group_of(self, member: str) -> str | None:
        """The group that `containers.parquet` lists a member under."""
        path = self.folder / CONTAINERS
        if not path.is_file():
            return None
        listed = pq.read_table(path, columns=["group"], filters=pc.field("name") == member)
        groups: list[str | None] = listed.column("group").to_pylist()
        return next((group for group in groups if group is not None), None)

    def _files(self, name: str) -> dict[str, Path] | None:
        result = self.summary.container_results.get(name)
        if result is None:
            return None
        files = {key: self.folder / kept.path for key, kept in result.keys.items() if kept.path is not None}
        output = read_record(self.folder).get("containers", {}).get(name, {}).get("kept_output")
        if output and output["path"]:
            files[output["key"]] = self.folder / output["path"]
        return files


class ContainerResults(Mapping[str, pa.Table]):
    """Key -> table of one container; a member of a group sees its own rows."""

    def __init__(self, name: str, files: Mapping[str, Path], member: str | None = None) -> None:
        self.name, self.files, self.member = name, files, member

    def __getitem__(self, key: str) -> pa.Table:
        if key not in self.files:
            raise KeyError(f"'{self.name}' has persisted no '{key}'; it has {', '.join(self.files) or 'nothing'}")
        if self.member is None:
            return pq.read_table(self.files[key])
        table = pq.read_table(self.files[key], filters=pc.field("container") == self.member)
        return table.drop_columns(["container"])

    def __repr__(self) -> str:
        return f"ContainerResults({self.name!r}, {sorted(self.files)})"

    def has_rows(self, key: str) -> bool:
        return bool(self[key].num_rows)

    def __iter__(self) -> Any:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def open_results(path: str | Path, phase: str | None = None) -> PhaseResults:
    """The results in a run's folder, a phase's folder, or `<output>/<name>` (its latest run).

    Without `phase` the only one there is, or the last by name of folder time. Raises `InputError`.
    """
    root = Path(path)
    if not root.exists():
        raise InputError(f"there is no folder {root}")
    for base in (root, root / "latest"):
        summary = read_summary(base)
        if summary is not None:
            return PhaseResults(base, summary)
        phases = sorted(base.glob(f"{phase or '*'}/summary.json"), key=lambda found: found.stat().st_mtime_ns)
        if phases:
            folder = phases[-1].parent
            summary = read_summary(folder)
            if summary is not None:
                return PhaseResults(folder, summary)
    raise InputError(f"{root} holds no phase summary; expected a run's folder such as results/<name>/latest")


async def load_summary(phase: str | Path) -> PhaseSummary:
    """The summary in a phase's folder, such as `results/demo/latest/run`, read without blocking the event loop.

    For services that watch what other processes publish. Raises `InputError` where there is none, or none we can read.
    """
    path = Path(phase) / SUMMARY
    try:
        async with aiofiles.open(path, "rb") as file:
            return msgspec.json.decode(await file.read(), type=PhaseSummary)
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}; a phase that has not completed has no summary"
        ) from error
    except msgspec.DecodeError as error:
        raise InputError(f"{path} is no summary of this version: {error}") from error
