"""Configuration: YAML in, checked structs out, every problem with its line."""

from .canonical import Setting
from .explain import Row, explain
from .json_schema import json_schema
from .load import load_config
from .patterns import Group
from .phase import PhaseConfig, SelectConfig, WalkForward, WindowConfig
from .resolve import Config
from .schema import Bound, ConfigFile, ContainerConfig, GlobalDataFlow, InputConfig
from .space import ParameterSpace, Range

__all__ = [
    "Bound",
    "Config",
    "ConfigFile",
    "ContainerConfig",
    "GlobalDataFlow",
    "Group",
    "InputConfig",
    "ParameterSpace",
    "PhaseConfig",
    "Range",
    "Row",
    "SelectConfig",
    "Setting",
    "WalkForward",
    "WindowConfig",
    "explain",
    "json_schema",
    "load_config",
]
