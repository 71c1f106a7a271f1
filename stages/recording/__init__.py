"""Recordings of what venues send: raw messages that expire, and records in files that stay.

`recorder.py` has `open_recorder`, `ingesting.py` has `ingest`; both load what compiles.

A `recorder.py` appends messages to a recording's log, then interprets them (a `stream.py` for each venue), and rolls:
`partitions.py` sorts rows by kind and instrument, in memory up to a bound and then in row groups of files that are
not yet published, `layout.py` says where these lie. A part of the log lies within one stretch of time, so files roll
between parts, and never in the midst of one. Before the first change of a book in a file stands the book
(`keyframe`). `ingesting.py` takes captures in; `seen.py` knows those that are there already. Read as a capture
(`captures/recorded.py`), a recording gives the same messages, with their numbers. A run behind a recorded feed that
goes on from a checkpoint has what was recorded after it from the files (`missed.py`).
"""

from .recorded_live import RecordedLive
from .settings import Recording, RecordTo, Rolling

__all__ = ["RecordTo", "RecordedLive", "Recording", "Rolling"]
