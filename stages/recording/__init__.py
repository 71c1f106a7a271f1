"""Recordings of what venues send: raw messages that expire, and records in files that stay."""

from .ingesting import Ingested, ingest
from .recorder import Figures, Recorder, open_recorder
from .settings import Recording

__all__ = ["Figures", "Ingested", "Recorder", "Recording", "ingest", "open_recorder"]
