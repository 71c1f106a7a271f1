"""Files of messages as received, in the formats that recorders write: found, unpacked, split and merged."""

from .capture import Capture, RecordedCapture, open_captures
from .counts import CaptureCounts, Note
from .finding import is_capture, looked_for, why_no_capture
from .recorded import is_recording

__all__ = [
    "Capture",
    "CaptureCounts",
    "Note",
    "RecordedCapture",
    "is_capture",
    "is_recording",
    "looked_for",
    "open_captures",
    "why_no_capture",
]
