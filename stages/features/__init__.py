"""Bars from trades, quotes or finer bars, and the indicators computed over them."""
