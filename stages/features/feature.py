"""One named number per bar that a strategy may ask for, such as the mean of the last twenty closes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from difflib import get_close_matches
from typing import Literal, TypeAlias, cast, get_args

import msgspec

Kind: TypeAlias = Literal[
    "sma", "ema", "rsi", "bollinger_upper", "bollinger_middle", "bollinger_lower", "volatility",
    "stddev", "zscore", "returns", "max", "min", "median", "quantile", "atr", "vwap",
    "ratio", "correlation", "beta", "spread_zscore", "rank",
]  # fmt: skip
KINDS: tuple[str, ...] = get_args(Kind)
BOLLINGER_K = 2.0
"""Standard deviations between the middle and an outer Bollinger band where nobody says otherwise."""
MAX_N = 1_000_000
"""The longest window and the longest lag; what is in them is kept in memory per instrument (8 to 48 bytes each)."""

_BANDS = ("bollinger_upper", "bollinger_lower")
_AT_LEAST_TWO = ("volatility", "stddev", "zscore", "correlation", "beta", "spread_zscore")
PAIRS = ("ratio", "correlation", "beta", "spread_zscore")
"""Kinds that hold an instrument against another one."""
_TEXT = re.compile(
    rf"(?P<kind>{'|'.join(KINDS)}|bollinger)(?:_(?P<n>\d+))?"
    r"(?:_k(?P<k>\d+(?:\.\d+)?))?(?:_q(?P<q>\d+(?:\.\d+)?))?(?:_lag(?P<lag>\d+))?"
    r"(?:_(?P<column>(?!vs_)[A-Za-z]\w*?))?(?:_vs_(?P<other>\S+))?"
)
_LIKE_AN_OPTION = re.compile(r"(?:k|q|lag)\d+(?:_.*)?|.*_lag\d+|vs|vs_.*|.*_vs_.*|\d.*")


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A need: `kind` over the last `n` values of a bar column; hashable and comparable.

        {type: sma, n: 20}                                # or just "sma_20"
        {type: bollinger_upper, n: 20, k: 2.5}            # or "bollinger_upper_20_k2.5"
        {type: ema, n: 10, column: volume}                # or "ema_10_volume"
        {type: quantile, n: 50, q: 0.9}                   # or "quantile_50_q0.9"
        {type: max, n: 20, lag: 1, column: high}          # or "max_20_lag1_high": of the 20 bars before this one
        {type: beta, n: 60, other: ETHUSD.COINBASE}       # or "beta_60_vs_ETHUSD.COINBASE"

    `k` belongs to the outer Bollinger bands only (default 2), `q` (0 to 1) to quantiles, `other` to pairs. Any feature
    may have a `lag`: its value so many values of its own earlier, null where the feature itself is null. A `ratio` has
    no n. What each kind is stands at the class method of its name, the arithmetic in the `..._kernels.py` beside this.

    Raises `ValueError` for an `n` the kind has no meaning for, and for a field that does not belong to the kind.
    """

    kind: Kind = msgspec.field(name="type")
    n: int = 0
    column: str = "close"
    k: float | None = None
    q: float | None = None
    lag: int = 0
    other: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"expected a feature among {', '.join(KINDS)}, found '{self.kind}'{_hint(self.kind)}")
        self._check_n()
        if not 0 <= self.lag <= MAX_N:
            raise ValueError(f"expected a lag between 0 and {MAX_N}, found {self.lag}")
        if not self.column or _LIKE_AN_OPTION.fullmatch(self.column):
            raise ValueError(f"expected a column of bars such as 'close', found '{self.column}'")
        if self.kind == "atr" and self.column != "close":
            raise ValueError(f"an atr is of high, low and close and has no column, found '{self.column}'")
        if self.kind in _BANDS:
            k = BOLLINGER_K if self.k is None else float(self.k)
            if not 0 < k < 1e6:
                raise ValueError(f"expected k of a {self.kind} above 0, found {k}")
            msgspec.structs.force_setattr(self, "k", k)
        elif self.k is not None:
            raise ValueError(f"a {self.kind} has no k, found {self.k}")
        if self.kind == "quantile":
            if self.q is None or not 0 <= self.q <= 1:
                raise ValueError(
                    f"expected q of a quantile between 0 and 1, such as 'quantile_50_q0.9', found {self.q}"
                )
            msgspec.structs.force_setattr(self, "q", float(self.q) + 0.0)
        elif self.q is not None:
            raise ValueError(f"a {self.kind} has no q, found {self.q}; a quantile has one")
        self._check_other()

    def _check_n(self) -> None:
        if self.kind == "ratio":
            if self.n:
                raise ValueError(f"a ratio has no n, found {self.n}")
            return
        least = 2 if self.kind in _AT_LEAST_TWO else 1
        if not least <= self.n <= MAX_N:
            raise ValueError(f"expected n of a {self.kind} between {least} and {MAX_N}, found {self.n or 'none'}")

    def _check_other(self) -> None:
        if self.kind not in PAIRS:
            if self.other is not None:
                raise ValueError(
                    f"a {self.kind} has no other instrument, found '{self.other}'; {', '.join(PAIRS)} have"
                )
        elif not self.other or any(character.isspace() for character in self.other):
            found = "none" if self.other is None else f"'{self.other}'"
            raise ValueError(
                f"expected another instrument for a {self.kind}, such as 'other: ETHUSD.COINBASE', found {found}"
            )

    @property
    def name(self) -> str:
        """The output column: `sma_20`, `ema_10_volume`, `max_20_lag1_high`; defaults are left out."""
        name = f"{self.kind}_{self.n}" if self.n else self.kind
        if self.k is not None and self.k != BOLLINGER_K:
            name += f"_k{_digits(self.k)}"
        if self.q is not None:
            name += f"_q{_digits(self.q)}"
        if self.lag:
            name += f"_lag{self.lag}"
        if self.column != "close":
            name += f"_{self.column}"
        return name if self.other is None else f"{name}_vs_{self.other}"

    @property
    def sort_key(self) -> tuple[str, str, int, float, int, str]:
        """Order of output columns: column, kind, n, k or q, lag, other, so that the order of asking does not matter."""
        return (self.column, self.kind, self.n, self.k or self.q or 0.0, self.lag, self.other or "")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns of the bars it is computed from."""
        if self.kind == "atr":
            return ("high", "low", "close")
        return (self.column, "volume") if self.kind == "vwap" else (self.column,)

    @property
    def crosses(self) -> bool:
        """Whether it looks at other instruments, so that all bars of a moment must be there."""
        return self.kind in PAIRS or self.kind == "rank"

    def before(self, lag: int = 1) -> Feature:
        """This feature `lag` values earlier: `Feature.max(20, "high").before()` is the channel this bar may break."""
        return msgspec.structs.replace(self, lag=self.lag + lag)

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
    def stddev(cls, n: int, column: str = "close") -> Feature:
        """Population standard deviation (divided by n) of the last `n` values, the one of Bollinger bands."""
        return cls("stddev", n, column)

    @classmethod
    def zscore(cls, n: int, column: str = "close") -> Feature:
        """(value - mean) / population standard deviation of the last `n` values; null where they are all the same."""
        return cls("zscore", n, column)

    @classmethod
    def returns(cls, n: int = 1, column: str = "close") -> Feature:
        """Simple return over `n` bars, value / value n bars before - 1; null where that is no finite number."""
        return cls("returns", n, column)

    @classmethod
    def max(cls, n: int, column: str = "close") -> Feature:
        """The largest of the last `n` values, this bar's among them."""
        return cls("max", n, column)

    @classmethod
    def min(cls, n: int, column: str = "close") -> Feature:
        """The smallest of the last `n` values, this bar's among them."""
        return cls("min", n, column)

    @classmethod
    def median(cls, n: int, column: str = "close") -> Feature:
        """The middle one of the last `n` values, or the mean of the two in the middle."""
        return cls("median", n, column)

    @classmethod
    def quantile(cls, n: int, q: float, column: str = "close") -> Feature:
        """Quantile `q` (0 to 1) of the last `n` values, linear between neighbours (Hyndman and Fan's type 7)."""
        return cls("quantile", n, column, q=q)

    @classmethod
    def atr(cls, n: int = 14) -> Feature:
        """Wilder's average true range: the mean of the first `n` true ranges, then (before (n - 1) + range) / n.

        A true range reaches from the bar's low to its high, and to the close before it; the first bar's is high - low.
        """
        return cls("atr", n)

    @classmethod
    def vwap(cls, n: int, column: str = "close") -> Feature:
        """Sum(column x volume) / sum(volume) of the last `n` bars; null where nothing was traded in all of them.

        `column` is the close; where bars carry their own `vwap`, `Feature.vwap(n, "vwap")` is that of all n bars.
        """
        return cls("vwap", n, column)

    @classmethod
    def ratio(cls, other: str, column: str = "close") -> Feature:
        """This instrument's value / the other's latest."""
        return cls("ratio", 0, column, other=other)

    @classmethod
    def correlation(cls, n: int, other: str, column: str = "close") -> Feature:
        """Pearson's correlation of the last `n` simple returns of this instrument and the other."""
        return cls("correlation", n, column, other=other)

    @classmethod
    def beta(cls, n: int, other: str, column: str = "close") -> Feature:
        """Covariance with the other's returns / variance of the other's, over the last `n` simple returns."""
        return cls("beta", n, column, other=other)

    @classmethod
    def spread_zscore(cls, n: int, other: str, column: str = "close") -> Feature:
        """`zscore` of ln(this value / the other's latest) over the last `n` bars of this instrument."""
        return cls("spread_zscore", n, column, other=other)

    @classmethod
    def rank(cls, n: int, column: str = "close") -> Feature:
        """Rank of the `n`-bar return among all instruments of the same moment, 0 lowest to 1 highest.

        Equal returns share the mean of their ranks; null where there is no other instrument to compare with.
        """
        return cls("rank", n, column)

    @classmethod
    def parse(cls, text: str) -> tuple[Feature, ...]:
        """Features from their name; `bollinger_20` gives three bands. Raises `ValueError` with an example."""
        match = _TEXT.fullmatch(text)
        if match is None or (match["n"] is None) != (match["kind"] == "ratio"):
            raise ValueError(
                f"expected a feature such as 'sma_20' (a number after one of {', '.join(KINDS)}, bollinger), "
                f"found '{text}'{_hint(text)}"
            )
        n, column = int(match["n"] or 0), match["column"] or "close"
        k = float(match["k"]) if match["k"] else None
        q = float(match["q"]) if match["q"] else None
        lag = int(match["lag"] or 0)
        if match["kind"] == "bollinger":
            bands = cls.bollinger(n, BOLLINGER_K if k is None else k, column)
            return tuple(band.before(lag) for band in bands)
        return (cls(cast(Kind, match["kind"]), n, column, k, q, lag, match["other"]),)


def union(wanted: Iterable[str | Feature]) -> Sequence[Feature]:
    """Every feature once, parsed and in the order of output columns."""
    found: set[Feature] = set()
    for item in wanted:
        found.update(Feature.parse(item) if isinstance(item, str) else (item,))
    return sorted(found, key=lambda feature: feature.sort_key)


def _digits(number: float) -> str:
    """All of them, without an exponent and without the zeros nobody reads."""
    text = format(Decimal(repr(number)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _hint(text: str) -> str:
    """What may have been meant."""
    word = re.match(r"[a-z_]*?(?=_?\d|$)", text.lower())
    near = get_close_matches(word[0] if word else text, KINDS, n=1)
    return f"; did you mean '{near[0]}'?" if near and near[0] != text else ""
