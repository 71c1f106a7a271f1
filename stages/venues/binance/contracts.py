"""What is told of contracts beside their market: funding, liquidations, open interest, status, and what they are."""

from __future__ import annotations

from typing import Any

from stages.schemas import BUY, FLAG_LAST, SELL, Records

from . import wire
from .group import Group, Market, nanoseconds
from .reading import Instrument, Unreadable

_SIDES = {"BUY": BUY, "SELL": SELL}


def funding(group: Group, records: Records, market: Market) -> None:
    events = group.events
    records.add(
        "funding_rate",
        group.at,
        ts_event=[nanoseconds(event.E) for event in events],
        instrument_id=group.instruments,
        flags=FLAG_LAST,
        rate=[event.r or None for event in events],
        next_funding_ts=[nanoseconds(event.T) or None for event in events],
        mark_price=[event.p for event in events],
        index_price=[event.i for event in events],
    )


def liquidations(group: Group, records: Records, market: Market) -> None:
    orders = [event.o for event in group.events]
    records.add(
        "liquidation",
        group.at,
        ts_event=[nanoseconds(order.T) for order in orders],
        instrument_id=group.instruments,
        flags=FLAG_LAST,
        side=[_SIDES[order.S] for order in orders],
        price=[order.p for order in orders],
        size=[order.q for order in orders],
        average_price=[order.ap for order in orders],
        filled_size=[order.z for order in orders],
        order_status=[order.X for order in orders],
    )


def open_interest(group: Group, records: Records, market: Market) -> None:
    records.add(
        "open_interest",
        group.at,
        ts_event=[None if event.time is None else nanoseconds(event.time) for event in group.events],
        instrument_id=group.instruments,
        flags=FLAG_LAST,
        open_interest=[event.openInterest for event in group.events],
    )


def statuses(group: Group, records: Records, market: Market) -> None:
    records.add(
        "instrument_status",
        group.at,
        ts_event=[nanoseconds(event.E) for event in group.events],
        instrument_id=group.instruments,
        flags=FLAG_LAST,
        action=[event.cs.lower() for event in group.events],
    )


def instruments(group: Group, records: Records, market: Market) -> None:
    listed = [event.listed for event in group.events]
    kinds = [_asset_class(each) for each in listed]
    records.add(
        "instrument",
        group.at,
        ts_event=[None if event.time is None else nanoseconds(event.time) for event in group.events],
        instrument_id=group.instruments,
        flags=FLAG_LAST,
        raw_symbol=[each.symbol for each in listed],
        asset_class=kinds,
        base=[each.baseAsset for each in listed],
        quote=[each.quoteAsset for each in listed],
        settlement=[each.marginAsset or each.quoteAsset for each in listed],
        price_increment=[_increment(event, "PRICE_FILTER", "tickSize") for event in group.events],
        size_increment=[_increment(event, "LOT_SIZE", "stepSize") for event in group.events],
        multiplier=[None if each.contractSize is None else str(each.contractSize) for each in listed],
        size_unit=market.size_unit,
        calendar="24/7",
        ts_valid_from=[None if each.onboardDate is None else nanoseconds(each.onboardDate) for each in listed],
        ts_valid_to=[
            nanoseconds(each.deliveryDate) if kind == "future" and each.deliveryDate else None
            for each, kind in zip(listed, kinds, strict=True)
        ],
    )


def check_side(event: Any) -> None:
    if event.o.S not in _SIDES:
        raise Unreadable(f"expected the side BUY or SELL, found {event.o.S!r:.80}")


def check_increments(event: Any) -> None:
    _increment(event, "PRICE_FILTER", "tickSize")
    _increment(event, "LOT_SIZE", "stepSize")


def _asset_class(listed: wire.Listed) -> str:
    if not listed.contractType:
        return "spot" if listed.marginAsset is None else "future"
    return "perpetual" if "PERPETUAL" in listed.contractType else "future"


def _increment(event: Instrument, kind: str, field: str) -> str | None:
    for rule in event.listed.filters:
        if rule.get("filterType") == kind:
            if isinstance(found := rule.get(field), str):
                return found
            raise Unreadable(f"expected text in `{field}` of {event.symbol}'s {kind}, found {found!r:.40}")
    return None
