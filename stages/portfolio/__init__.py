"""Portfolios: what a strategy wants, what it gets filled at, and how it did."""
