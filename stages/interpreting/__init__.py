"""From a venue's messages to normalised records, live and replayed by the same code."""

from typing import TYPE_CHECKING, Any

from .settings import Interpreting

if TYPE_CHECKING:
    from .interpreter import Interpreted, Interpreter

__all__ = ["Interpreted", "Interpreter", "Interpreting"]


def __getattr__(name: str) -> Any:
    """What is compiled is imported by who runs it, not by who only reads settings."""
    if name not in ("Interpreted", "Interpreter"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import interpreter

    return getattr(interpreter, name)
