"""The messages of a recording, as they were recorded: the same to read as a capture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline import InputError

from ..messages import Messages
from .counts import CaptureCounts


def is_recording(path: Path) -> bool:
    """Whether a folder is one that messages are recorded in."""
    return path.is_dir() and (path / "wal").is_dir() and any(path.glob("MANIFEST-*"))


def recorded(folder: Path, counts: CaptureCounts, most: int, wanted: str | None = None) -> Iterator[Messages]:
    """Messages in the order recorded, with the numbers they had; of one venue (`wanted`), or of the only one.

    A message is no older than the one before it of its venue: where the clock had stepped back, it is raised, as it was
    when it was recorded. Raises `InputError` where there are several venues and none is named.
    """
    import pyarrow.compute as pc

    from pipeline import read_recording

    newest = -1
    tag = wanted
    for run in read_recording(folder):
        if tag is None:
            tag = run.tag
        if run.tag != tag:
            if wanted is None:
                raise InputError(f"{folder}: expected one venue's messages, found {tag} and {run.tag}; name the venue")
            continue
        messages = Messages.from_batch(run.batch)
        raised = np.maximum.accumulate(np.maximum(messages.ts_recv, newest))
        counts.steps_back += int(np.count_nonzero(raised != messages.ts_recv))
        newest = int(raised[-1])
        counts.messages += len(messages)
        counts.payload_bytes += pc.sum(pc.binary_length(messages.payload)).as_py()
        for kind, times in zip(*np.unique(messages.kind, return_counts=True), strict=True):
            counts.by_kind[int(kind)] = counts.by_kind.get(int(kind), 0) + int(times)
        whole = Messages(
            raised, messages.ingest_seq, messages.kind, messages.source, messages.source_code, messages.url,
            messages.url_code, messages.payload,
        )  # fmt: skip
        for start in range(0, len(whole), most):
            yield whole.slice(start, min(start + most, len(whole)))


def begins(folder: Path) -> tuple[int, str]:
    """When the first message came, ns, and whose it is. Raises `InputError` where there is none."""
    from pipeline import read_recording

    for run in read_recording(folder):
        return int(Messages.from_batch(run.batch).ts_recv[0]), run.tag
    raise InputError(f"{folder}: expected recorded messages, found none; they may have expired (`retention`)")
