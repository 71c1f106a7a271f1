"""The columns of bars with their features."""

from __future__ import annotations

import pyarrow as pa

from pipeline import SchemaMismatch

from .feature import Feature

BARS_HAVE = ("open", "high", "low", "close", "volume")
"""Columns of bars that are made of anything else."""


def with_features(schema: pa.Schema, features: tuple[Feature, ...], bars: str | None) -> pa.Schema:
    """`schema` and one column per feature. Raises `SchemaMismatch` where a feature's column is missing or taken."""
    for feature in features:
        for column in feature.inputs:
            if column not in schema.names:
                hint = "; `bars: 1m` would make bars first" if bars is None and column in BARS_HAVE else ""
                raise SchemaMismatch(
                    f"'{feature.name}' needs a column '{column}', found {', '.join(schema.names)}{hint}"
                )
        if feature.name in schema.names:
            raise SchemaMismatch(f"there is a column '{feature.name}' already; leave the feature of that name out")
        schema = schema.append(pa.field(feature.name, pa.float64(), metadata={"unit": "null until formed"}))
    return schema
