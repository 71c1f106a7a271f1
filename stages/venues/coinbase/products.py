"""Products of Coinbase, as its endpoints and status channels list them."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from stages.venues.facts import Fact, Listing, Status, Unreadable

_ACTIONS = {"online": "trading", "offline": "halted"}
_KINDS = {"SPOT": "spot", "FUTURE": "future"}


class Product(Struct, gc=False):
    """Coinbase Exchange calls a product `id` and the step of its prices `quote_increment`; Advanced Trade's endpoints
    say `product_id` and `price_increment`, and name currencies with `_id`."""

    quote_increment: str
    base_increment: str = ""
    """Told since 2020."""
    id: str = ""
    product_id: str = ""
    base_currency: str = ""
    quote_currency: str = ""
    base_currency_id: str = ""
    quote_currency_id: str = ""
    price_increment: str = ""
    product_type: str = "SPOT"
    status: str = ""
    status_message: str | None = None
    trading_disabled: bool = False
    cancel_only: bool = False
    post_only: bool = False
    limit_only: bool = False


def known_time(time: str | None) -> str | None:
    """A time as it was told; one of the year 1 says that it is not known."""
    return None if time is not None and time.startswith("0001-01-01T00:00:00") else time


def facts(products: Sequence[Product], time: str | None) -> list[Fact]:
    """What each product is, and what may be done with it where that is told. Raises `Unreadable`."""
    found: list[Fact] = []
    for product in products:
        symbol = product.id or product.product_id
        if not symbol:
            raise Unreadable("expected the name of a product, found none")
        found.append(
            Listing(
                symbol=symbol,
                time=time,
                base=product.base_currency or product.base_currency_id,
                quote=product.quote_currency or product.quote_currency_id,
                price_increment=product.price_increment or product.quote_increment,
                size_increment=product.base_increment or None,
                kind=_KINDS.get(product.product_type, product.product_type.lower()),
            )
        )
        if product.status:
            found.append(
                Status(symbol=symbol, time=time, action=_action(product), reason=product.status_message or None)
            )
    return found


def _action(product: Product) -> str:
    """What is still possible is Coinbase's word; `halted` where nothing is."""
    if product.trading_disabled:
        return "halted"
    for word in ("cancel_only", "post_only", "limit_only"):
        if getattr(product, word):
            return word
    return _ACTIONS.get(product.status, product.status)
