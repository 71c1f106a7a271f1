"""Live feeds: connections to a venue that are kept, and what comes by them as records.

A `session.py` owns connections, snapshots and one `buffer.py`. A `connection.py` is kept for as long as the session;
each `call.py` is one life of it, and its `line.py` the WebSocket, which stamps and hands over messages within the
callback that read their bytes: no task and no queue of its own. So one bound holds for all sockets; when it is
reached none is read, and `buffer.py` itself lets them be read again as it is taken from. Before a venue would close a
connection, the next call is opened beside it and holds its messages until the old one has ended: nothing is missing,
and what came by both is left out by its number. `snapshots.py` fetches in turn what `hosts.py` admits, one budget per
host and event loop. Everything a session does (OPENED, SENT, CLOSED, RESPONSE, FAILED, IDLE) is a message among those
received, `on_messages` has each run before it is interpreted, and `feed.py` only carries out what the interpreter
asks for: a replay of the messages says the same.
"""

from .live import Live

__all__ = ["Live"]
