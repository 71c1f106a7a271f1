"""From a venue's messages to normalised records, live and replayed by the same code."""

from .interpreter import Interpreted, Interpreter
from .settings import Interpreting

__all__ = ["Interpreted", "Interpreter", "Interpreting"]
