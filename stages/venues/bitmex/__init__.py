"""BitMEX: perpetuals, futures and spot, told as tables and their changes."""

from .venue import BITMEX

__all__ = ["BITMEX"]
