"""The table of instruments: what each is, its mark price and funding, what is held of it, whether it trades."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Raw

from stages.venues.facts import Fact, Funding, Interest, Listing, Status
from stages.venues.numbers import iso_ns, number_or_none

from . import wire

_KINDS = {
    "FFWCSX": "perpetual",
    "FFWCSF": "perpetual",
    "FFCCSX": "future",
    "FFICSX": "future",
    "FFSCSX": "future",
    "IFXXXP": "spot",
    "OCECCS": "option",
    "OPECCS": "option",
}
"""BitMEX's types of instruments, after ISO 10962; another one, such as an index, stays as it is."""
_STATES = {"Open": "trading", "Closed": "closed", "Unlisted": "delisted"}
_FUNDING = ("markPrice", "indicativeSettlePrice", "fundingRate", "fundingTimestamp", "fundingInterval")
_MIDNIGHT = iso_ns("2000-01-01T00:00:00Z")


class Instruments:
    """What is known of each instrument, since an update tells only what has changed."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, str | None]] = {}

    def read(self, data: bytes | Raw) -> list[Fact] | str:
        """Rows of the table, from the stream or from `/api/v1/instrument`."""
        rows = wire.instrument_rows.decode(data)
        known = {row.symbol: dict(self._known.get(row.symbol, ())) for row in rows}
        facts: list[Fact] = []
        for row in rows:
            facts += _facts(row, known[row.symbol])
        self._known.update(known)
        return facts or "nothing new of instruments"

    def snapshot(self) -> dict[str, Any]:
        return {symbol: dict(known) for symbol, known in self._known.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._known = {symbol: dict(known) for symbol, known in state.items()}


def _facts(row: wire.InstrumentRow, known: dict[str, str | None]) -> list[Fact]:
    time = None if row.timestamp is UNSET else iso_ns(row.timestamp)
    facts: list[Fact] = []
    if row.typ is not UNSET and row.underlying is not UNSET and row.quoteCurrency is not UNSET:
        facts.append(_listing(row, time))
    told = [name for name in _FUNDING if getattr(row, name) is not UNSET]
    for name in told:
        value = getattr(row, name)
        known[name] = number_or_none(value) if isinstance(value, Raw) else value
    if any(known[name] is not None for name in told):
        facts.append(_funding(row.symbol, time, known))
    interest = number_or_none(row.openInterest)
    if interest is not None:
        facts.append(Interest(symbol=row.symbol, time=time, size=interest))
    if row.state is not UNSET and row.state != known.get("state"):
        known["state"] = row.state
        facts.append(Status(symbol=row.symbol, time=time, action=_STATES.get(row.state, row.state.lower())))
    return facts


def _funding(symbol: str, time: int | None, known: Mapping[str, str | None]) -> Funding:
    interval = _ns(known.get("fundingInterval"))
    return Funding(
        symbol=symbol,
        time=time,
        rate=known.get("fundingRate"),
        minutes=None if interval is None else (interval - _MIDNIGHT) // (60 * 10**9),
        next=_ns(known.get("fundingTimestamp")),
        mark=known.get("markPrice"),
        index=known.get("indicativeSettlePrice"),
    )


def _listing(row: wire.InstrumentRow, time: int | None) -> Listing:
    assert isinstance(row.typ, str) and isinstance(row.underlying, str) and isinstance(row.quoteCurrency, str)
    return Listing(
        symbol=row.symbol,
        time=time,
        base=row.underlying,
        quote=row.quoteCurrency,
        settlement=row.settlCurrency or None,
        price_increment=number_or_none(row.tickSize),
        size_increment=number_or_none(row.lotSize),
        kind=_KINDS.get(row.typ, row.typ),
        size_unit="contract",
        begins=_ns(row.listing),
        ends=_ns(row.settle),
    )


def _ns(text: Any) -> int | None:
    return iso_ns(text) if isinstance(text, str) and text else None
