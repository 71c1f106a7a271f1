"""Recordings: rows go to a log first, and then to files that are committed with how far in the log they reach."""

from .files import RecordFile
from .folder import CommittedFiles, Expired, RecordFolder, open_recording
from .reading import CONTAINER, Recorded, read_recording

__all__ = [
    "CONTAINER",
    "CommittedFiles",
    "Expired",
    "RecordFile",
    "RecordFolder",
    "Recorded",
    "open_recording",
    "read_recording",
]
