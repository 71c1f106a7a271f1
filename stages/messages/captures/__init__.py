"""Files of messages as received, in the formats that recorders write: found, unpacked, split and merged."""

from .capture import Capture, open_captures
from .counts import CaptureCounts, Note

__all__ = ["Capture", "CaptureCounts", "Note", "open_captures"]
