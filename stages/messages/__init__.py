"""Messages as they were received: the bytes, when they came, and where from."""

from .message import MESSAGE, MessageKind, RawMessage
from .messages import Messages

__all__ = ["MESSAGE", "MessageKind", "Messages", "RawMessage"]
