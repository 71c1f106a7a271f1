"""Recordings: rows go to a log first, and then to files that are committed with how far in the log they reach.

A recording is a folder without a run: rows are appended to its journal, and later lie in files, which one commit adds
together with how far in the journal they reach and what is needed to go on from there, as a checkpoint. What is
behind that is read from the journal again (`reading.py`); segments that files cover go when they are old enough.
"""

from typing import TYPE_CHECKING

from ..lazily import lazily

if TYPE_CHECKING:
    from .files import RecordFile
    from .folder import CommittedFiles, Expired, RecordFolder, open_recording
    from .listing import RecordedFile, recorded_files
    from .reading import CONTAINER, Recorded, read_recording
else:  # the same again: who looks for recordings writes none, and needs no parquet for it
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "files": ("RecordFile",),
            "folder": ("CommittedFiles", "Expired", "RecordFolder", "open_recording"),
            "listing": ("RecordedFile", "recorded_files"),
            "reading": ("CONTAINER", "Recorded", "read_recording"),
        },
    )

__all__ = [
    "CONTAINER",
    "CommittedFiles",
    "Expired",
    "RecordFile",
    "RecordFolder",
    "Recorded",
    "RecordedFile",
    "open_recording",
    "read_recording",
    "recorded_files",
]
