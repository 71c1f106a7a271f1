"""How much of the data is looked at unless somebody says otherwise."""

DEFAULT_ROWS = 20_000
DEFAULT_CUTS = 5
