"""Live feeds: connections to a venue that are kept, and what comes by them as records."""

from .live import Live

__all__ = ["Live"]
