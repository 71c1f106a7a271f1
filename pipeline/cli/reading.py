"""Reads the configuration a command was given."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import Config, load_config
from pipeline.registry import Registry

from .options import ReadingOptions


def read(config: Path, options: ReadingOptions) -> Config:
    """The checked configuration; raises `ConfigError` with every problem."""
    return load_config(config, registry=Registry.installed(), overrides=options["overrides"], data=options["data"])
