"""How a session behaves towards a venue, and what its parts share."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass

import msgspec
import numpy as np

from pipeline import Clock
from stages.venues import Venue

from .backoff import CAP_SECONDS, FIRST_SECONDS, Backoff
from .buffer import Bound, Buffer


class Conduct(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds."""

    open_timeout: float = 10.0
    """From dialling to an open WebSocket."""
    ping_every: float = 20.0
    ping_timeout: float = 20.0
    """Nothing heard for so long after a ping, not even an answer: the connection is taken for dead."""
    first_retry: float = FIRST_SECONDS
    longest_retry: float = CAP_SECONDS
    renew_before: float = 1800.0
    """So long before the venue would close a connection, at the earliest, it is opened anew; when exactly is drawn."""
    handover: float = 5.0
    """How long a connection that takes over may take to bring something before the old one is closed."""
    snapshot_timeout: float = 10.0
    snapshots_at_once: int = 4
    idle_every: float | None = None
    """When nothing came for so long, the stream of messages says so; None: it does not."""
    bound: Bound = Bound()


@dataclass(frozen=True)
class Means:
    """What all parts of a session use."""

    venue: Venue
    conduct: Conduct
    clock: Clock
    random: np.random.Generator
    buffer: Buffer
    log: logging.Logger
    context: ssl.SSLContext | None

    def backoff(self) -> Backoff:
        return Backoff(self.random, self.conduct.first_retry, self.conduct.longest_retry)
