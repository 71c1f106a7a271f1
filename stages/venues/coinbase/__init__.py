"""Coinbase by the two protocols it speaks: that of Coinbase Exchange, and that of Advanced Trade."""

from .advanced import COINBASE_ADVANCED
from .exchange import COINBASE_EXCHANGE

__all__ = ["COINBASE_ADVANCED", "COINBASE_EXCHANGE"]
