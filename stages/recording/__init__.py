"""Recordings of what venues send: raw messages that expire, and records in files that stay.

`recorder.py` has `open_recorder`, `ingesting.py` has `ingest`; both load what compiles.
"""

from .recorded_live import RecordedLive
from .settings import Recording, RecordTo, Rolling

__all__ = ["RecordTo", "RecordedLive", "Recording", "Rolling"]
