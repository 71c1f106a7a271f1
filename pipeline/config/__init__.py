"""Configuration: YAML in, checked structs out, every problem with its line."""

from .canonical import Setting, recipe_name
from .explain import Row, explain
from .json_schema import json_schema
from .load import load_config
from .patterns import Group
from .phase import PhaseConfig, SelectConfig, WalkForward, WindowConfig
from .resolve import Config
from .schema import Bound, CheckpointConfig, ConfigFile, ContainerConfig, GlobalDataFlow, InputConfig
from .space import Block, Distribution, ParameterSpace, Range, Sample, Spaced

__all__ = [
    "Block",
    "Bound",
    "CheckpointConfig",
    "Config",
    "ConfigFile",
    "ContainerConfig",
    "Distribution",
    "GlobalDataFlow",
    "Group",
    "InputConfig",
    "ParameterSpace",
    "PhaseConfig",
    "Range",
    "Row",
    "Sample",
    "SelectConfig",
    "Setting",
    "Spaced",
    "WalkForward",
    "WindowConfig",
    "explain",
    "json_schema",
    "load_config",
    "recipe_name",
]
