"""Kraken's spot market, by version 2 of its WebSocket protocol and by version 1."""

from .v1 import KRAKEN_V1
from .v2 import KRAKEN

__all__ = ["KRAKEN", "KRAKEN_V1"]
