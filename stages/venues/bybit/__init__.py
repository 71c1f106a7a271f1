"""Bybit: derivatives and spot as they are told since 2023 (v5), and derivatives as they were told before (v2)."""

from .v2 import BYBIT_V2
from .v5 import BYBIT, BYBIT_SPOT

__all__ = ["BYBIT", "BYBIT_SPOT", "BYBIT_V2"]
