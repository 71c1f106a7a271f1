"""One named number per bar that a strategy may ask for, such as the mean of the last twenty closes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias, cast, get_args

import msgspec

Kind: TypeAlias = Literal["sma", "ema", "rsi", "bollinger_upper", "bollinger_middle", "bollinger_lower", "volatility"]
KINDS: tuple[str, ...] = get_args(Kind)
BOLLINGER_K = 2.0
"""Standard deviations between the middle and an outer Bollinger band where nobody says otherwise."""
MAX_N = 1_000_000
"""The longest window; its prices are kept in memory per instrument (8 bytes each)."""

_BANDS = ("bollinger_upper", "bollinger_lower")
_TEXT = re.compile(r"(?P<kind>[a-z_]+?)_(?P<n>\d+)(?:_k(?P<k>\d+(?:\.\d+)?))?(?:_(?P<column>[A-Za-z]\w*))?")


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A need: `kind` over the last `n` values of a bar column; hashable and comparable.

        {type: sma, n: 20}                      # or just "sma_20"
        {type: bollinger_upper, n: 20, k: 2.5}  # or "bollinger_upper_20_k2.5"
        {type: ema, n: 10, column: volume}      # or "ema_10_volume"

    Formulas are in `stages/features/kernels.py`. `k` belongs to the outer Bollinger bands only (default 2).
    Raises `ValueError` for an `n` the kind has no meaning for, or a `k` where none belongs.
    """

    kind: Kind = msgspec.field(name="type")
    n: int
    column: str = "close"
    k: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"expected a feature among {', '.join(KINDS)}, found '{self.kind}'")
        least = 2 if self.kind == "volatility" else 1
        if not least <= self.n <= MAX_N:
            raise ValueError(f"expected n of a {self.kind} between {least} and {MAX_N}, found {self.n}")
        if self.kind in _BANDS:
            k = BOLLINGER_K if self.k is None else float(self.k)
            if not 0 < k < 1e6:
                raise ValueError(f"expected k of a {self.kind} above 0, found {k}")
            msgspec.structs.force_setattr(self, "k", k)
        elif self.k is not None:
            raise ValueError(f"a {self.kind} has no k, found {self.k}")

    @property
    def name(self) -> str:
        """The output column: `sma_20`, `ema_10_volume`, `bollinger_upper_20_k2.5`; defaults are left out."""
        name = f"{self.kind}_{self.n}"
        if self.k is not None and self.k != BOLLINGER_K:
            name += f"_k{self.k:f}".rstrip("0").rstrip(".")
        return name if self.column == "close" else f"{name}_{self.column}"

    @property
    def sort_key(self) -> tuple[str, str, int, float]:
        """Order of output columns: column, kind, n, k, so that the order of asking does not matter."""
        return (self.column, self.kind, self.n, self.k or 0.0)

    @classmethod
    def sma(cls, n: int, column: str = "close") -> Feature:
        """Simple moving average of `n` values."""
        return cls("sma", n, column)

    @classmethod
    def ema(cls, n: int, column: str = "close") -> Feature:
        """Exponential moving average, alpha = 2 / (n + 1)."""
        return cls("ema", n, column)

    @classmethod
    def rsi(cls, n: int = 14, column: str = "close") -> Feature:
        """Wilder's relative strength index, 0 to 100."""
        return cls("rsi", n, column)

    @classmethod
    def volatility(cls, n: int, column: str = "close") -> Feature:
        """Sample standard deviation of the last `n` simple returns, per bar (not annualised)."""
        return cls("volatility", n, column)

    @classmethod
    def bollinger(cls, n: int = 20, k: float = BOLLINGER_K, column: str = "close") -> tuple[Feature, Feature, Feature]:
        """The upper, middle and lower band: three features."""
        return (
            cls("bollinger_upper", n, column, k),
            cls("bollinger_middle", n, column),
            cls("bollinger_lower", n, column, k),
        )

    @classmethod
    def parse(cls, text: str) -> tuple[Feature, ...]:
        """Features from their name; `bollinger_20` gives three bands. Raises `ValueError` with an example."""
        match = _TEXT.fullmatch(text)
        if match is None or match["kind"] not in (*KINDS, "bollinger"):
            raise ValueError(
                f"expected a feature such as 'sma_20' (a number after one of {', '.join(KINDS)}, bollinger), "
                f"found '{text}'"
            )
        n, column = int(match["n"]), match["column"] or "close"
        k = float(match["k"]) if match["k"] else None
        if match["kind"] == "bollinger":
            return cls.bollinger(n, BOLLINGER_K if k is None else k, column)
        return (cls(cast(Kind, match["kind"]), n, column, k),)


def union(wanted: Iterable[str | Feature]) -> Sequence[Feature]:
    """Every feature once, parsed and in the order of output columns."""
    found: set[Feature] = set()
    for item in wanted:
        found.update(Feature.parse(item) if isinstance(item, str) else (item,))
    return sorted(found, key=lambda feature: feature.sort_key)
