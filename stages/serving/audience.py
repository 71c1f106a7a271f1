"""Who gets what: the clients of a server, and the streams they subscribed to."""

from __future__ import annotations

import asyncio

from stages.venues.serving import VenueServer

from .client import Client
from .script import Shown


class Audience:
    """All clients that are connected, in the order in which they came."""

    def __init__(self, venue: VenueServer) -> None:
        self.clients: dict[int, Client] = {}
        self.recorded: set[str] = set()
        """Streams that the recording is known to hold."""
        self._venue = venue
        self._who: dict[str, list[tuple[Client, str]]] = {}
        self._changed = asyncio.Event()

    @property
    def subscribed(self) -> int:
        """Clients that have asked for something and are not about to be closed."""
        return sum(bool(client.subscriptions.names) and client.ended is None for client in self.clients.values())

    async def wait_for(self, clients: int) -> None:
        """Until at least so many have subscribed to something."""
        while self.subscribed < clients:
            self._changed.clear()
            await self._changed.wait()

    def missing(self, client: Client) -> list[str]:
        """Streams a client asked for that the recording is not known to hold, by their own name or that of kin."""
        kin = {self._venue.kin(stream) for stream in self.recorded}
        return [name for name in client.subscriptions.names if self._venue.kin(name) not in kin]

    def enter(self, client: Client) -> None:
        self.clients[client.number] = client
        self.changed()

    def leave(self, client: Client) -> None:
        del self.clients[client.number]
        self.changed()

    def changed(self) -> None:
        """Somebody came, left, or subscribed to something else."""
        self._who.clear()
        self._changed.set()

    def show(self, event: Shown) -> list[Client]:
        """Give an event to whoever asked for its stream; returns them."""
        if event.stream not in self.recorded:
            self.recorded.add(event.stream)
            self._who.clear()
        who = self._who.get(event.stream)
        if who is None:
            who = self._who[event.stream] = self._those_who_asked(event.stream)
        frames: dict[tuple[str, bool], bytes] = {}
        for client, name in who:
            form = (name, client.subscriptions.wrapped)
            if form not in frames:
                frames[form] = self._venue.frame(name, event.data, wrapped=form[1])
            client.put(frames[form])
        return [client for client, _ in who]

    def _those_who_asked(self, stream: str) -> list[tuple[Client, str]]:
        """By the stream's own name, or by that of kin which is not in the recording."""
        kin = self._venue.kin(stream)
        return [
            (client, name)
            for client in self.clients.values()
            for name in client.subscriptions.names
            if name == stream or (name not in self.recorded and self._venue.kin(name) == kin)
        ]
