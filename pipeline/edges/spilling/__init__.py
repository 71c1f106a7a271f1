"""Edges whose overflow goes to disk."""

from .edge import SpillingEdge, needed_last, open_edge

__all__ = ["SpillingEdge", "needed_last", "open_edge"]
