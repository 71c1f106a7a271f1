"""From a venue's messages to normalised records, live and replayed by the same code.

`interpreter.py` is one deterministic function of a venue's messages, live and replayed: the decoder's records, the
numbers of trades and quotes (`sequences.py`), books, connections that were lost (`connections.py`) and channels that
fell silent (`silence.py`). What is wrong becomes a quality event; `ledger.py` counts them for the summary, and
`stages/quality` finds, counts and draws those a folder holds.
"""

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
