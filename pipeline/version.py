"""Which Penstock this is."""

from __future__ import annotations


def code_version() -> str:
    """The installed version of Penstock."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("penstock")
    except PackageNotFoundError:
        return "0"
