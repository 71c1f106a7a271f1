"""Consistent cuts through a running graph, and going on from them."""
