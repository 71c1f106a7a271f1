"""Which standard column each column of a table becomes: as declared, otherwise by the names people commonly use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import InputError
from stages.schemas import RECORD_KINDS, RecordKind, schema_of

from .declaration import Declaration

VENUE = "venue"
"""A column that is not standard: the second half of `SYMBOL.VENUE`."""
BUYER_IS_MAKER = "buyer_is_maker"
"""A column that is not standard: true where the seller was the aggressor."""
EXTRA = (VENUE, BUYER_IS_MAKER)

_COMMON = {
    "ts_event": "ts_event timestamp time datetime date ts event_time exchange_timestamp open_time unix t",
    "ts_recv": "ts_recv local_timestamp receive_time received_at ts_init",
    "instrument_id": "instrument_id instrument symbol ticker pair sym",
    "source_id": "source_id",
    VENUE: "venue exchange",
    "sequence": "sequence seq update_id",
    "flags": "flags",
}
_BY_KIND: dict[RecordKind, dict[str, str]] = {
    "bar": {
        "open": "open open_price o",
        "high": "high high_price h",
        "low": "low low_price l",
        "close": "close close_price c last",
        "volume": "volume vol v base_volume volume_base qty quantity",
        "vwap": "vwap",
        "trade_count": "trade_count trades count number_of_trades num_trades n",
        "buy_volume": "buy_volume taker_buy_volume taker_buy_base_asset_volume taker_buy_base_volume",
        "bar_start": "bar_start",
        "bar_end": "bar_end",
        "interval_ns": "interval_ns",
        "bar_kind": "bar_kind",
        "price_type": "price_type",
        "source": "source",
        "is_complete": "is_complete",
        "is_empty": "is_empty",
    },
    "quote": {
        "bid_price": "bid_price bid best_bid best_bid_price bidprice",
        "bid_size": "bid_size bid_amount bid_qty bid_quantity bid_volume best_bid_size best_bid_qty bidsize",
        "ask_price": "ask_price ask best_ask best_ask_price askprice offer",
        "ask_size": "ask_size ask_amount ask_qty ask_quantity ask_volume best_ask_size best_ask_qty asksize",
        "bid_count": "bid_count",
        "ask_count": "ask_count",
    },
    "trade": {
        "price": "price px p last_price trade_price rate",
        "size": "size qty quantity amount volume vol q last_size trade_size",
        "aggressor_side": "aggressor_side side taker_side direction",
        BUYER_IS_MAKER: "buyer_is_maker is_buyer_maker buyer_maker m",
        "trade_id": "trade_id id tid tradeid agg_trade_id",
        "trade_type": "trade_type",
    },
}
_NEEDED: dict[RecordKind, tuple[str, ...]] = {
    "bar": ("open", "high", "low", "close"),
    "quote": ("bid_price", "ask_price"),
    "trade": ("price", "size"),
}
_BOOK_SIGNS = {"is_snapshot", "update_type", "first_update_id", "order_id", "action"}
"""Columns of order book updates, which look like trades but are not."""


@dataclass(frozen=True)
class ColumnMap:
    """The kind of record in a table, and the source column of each standard column that it has."""

    kind: RecordKind
    source: dict[str, str]
    unused: tuple[str, ...]


def map_columns(
    names: Sequence[str], declared: Declaration, path: Path, *, nameless_time: str | None = None
) -> ColumnMap:
    """How a table of these columns is read. Raises `InputError` listing the columns and how to declare them.

    `nameless_time` is the column that holds times whatever it is called, should none be called so.
    """
    given = _declared(names, declared, path)
    tried: list[str] = []
    for kind in ("bar", "quote", "trade"):
        if kind not in declared.kinds:
            continue
        source = _found(kind, names, given)
        timed = {"ts_event", "ts_recv", "bar_end"} & set(source)
        if not timed and nameless_time is not None and nameless_time not in source.values():
            timed, source = {"ts_event"}, source | {"ts_event": nameless_time}
        missing = [name for name in _NEEDED[kind] if name not in source]
        if not timed:
            missing.insert(0, "ts_event")
        book = not declared.columns and declared.schema == "auto" and _BOOK_SIGNS & {_plain(name) for name in names}
        if not missing and not book:
            used = set(source.values())
            return ColumnMap(kind, source, tuple(name for name in names if name not in used))
        tried.append(f"{kind} lacks {', '.join(missing)}" if missing else f"{kind}: it looks like order book updates")
    raise InputError(
        f"{path}: expected columns of trades, quotes or bars, found {_listed(names)} "
        f"({'; '.join(tried)}); declare the others as `columns: {{name in the file: standard name}}`, "
        "standard names being ts_event, price, size, aggressor_side, trade_id; bid_price, bid_size, ask_price, "
        "ask_size; open, high, low, close, volume; instrument_id"
    )


def standard_names() -> set[str]:
    """Every name that a declaration may map a column to."""
    return {name for kind in RECORD_KINDS for name in schema_of(kind).names} | set(EXTRA)


def _declared(names: Sequence[str], declared: Declaration, path: Path) -> dict[str, str]:
    """Standard name -> source name, as far as declared."""
    pairs: dict[str, str] = {}
    columns = declared.columns
    if isinstance(columns, dict):
        for source, standard in columns.items():
            if source not in names:
                raise InputError(f"{path}: expected the declared column '{source}', found {', '.join(names)}")
            pairs[standard] = source
    elif columns:
        pairs = {standard: source for source, standard in zip(names, columns, strict=False)}
    unknown = sorted(set(pairs) - standard_names() - set(names))
    if unknown:
        known = ", ".join(sorted(standard_names()))
        raise InputError(f"{path}: expected standard column names, found {', '.join(unknown)}; known are {known}")
    pairs = {standard: source for standard, source in pairs.items() if standard in standard_names()}
    if declared.time_column is not None:
        if declared.time_column not in names:
            raise InputError(f"{path}: expected the time column '{declared.time_column}', found {', '.join(names)}")
        pairs["ts_event"] = declared.time_column
    return pairs


def _found(kind: RecordKind, names: Sequence[str], given: dict[str, str]) -> dict[str, str]:
    source = dict(given)
    used = set(given.values())
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(_plain(name), name)
    for standard, aliases in {**_COMMON, **_BY_KIND[kind]}.items():
        if standard in source:
            continue
        for alias in aliases.split():
            if alias in plain and plain[alias] not in used:
                source[standard] = plain[alias]
                used.add(plain[alias])
                break
    return source


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:30])
    return f"{shown} and {len(names) - 30} more" if len(names) > 30 else shown or "none"


def _plain(name: str) -> str:
    """`Open Time` and `openTime` are `open_time`."""
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^a-z0-9]+", "_", snake.lower()).strip("_")
