"""Binance: spot, USD-M and COIN-M futures, and Binance.US."""

from .coinm import BINANCE_COINM
from .spot import BINANCE_SPOT, BINANCE_US
from .usdm import BINANCE_USDM

__all__ = ["BINANCE_COINM", "BINANCE_SPOT", "BINANCE_US", "BINANCE_USDM"]
