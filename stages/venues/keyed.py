"""Books whose updates say what they do to which level: what has to be there for them to be true."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from stages.schemas import BID

from .facts import Late, Level, Missed, Repeated


class Change(NamedTuple):
    """What becomes of one level: `price` and `size` are None where they are not told."""

    what: Literal["insert", "update", "delete"]
    id: str
    side: int
    price: str | None
    size: str | None


class Levels(NamedTuple):
    """Levels with their sizes, 0 where one is gone, in the order they were told."""

    bids: list[Level]
    asks: list[Level]


class Message(NamedTuple):
    """A message of a book; `number` is the venue's, where it rises from message to message."""

    symbol: str
    channel: str
    source: str
    payload: bytes
    number: int | None = None

    def name(self) -> str:
        """Short, and other for another message."""
        return hashlib.blake2b(self.payload, digest_size=8).hexdigest()


class KeyedBooks:
    """For each book which levels there are, by the venue's ids.

    An update is for a level that is there, an insert for one that is not. Where that does not hold, a message before
    was lost: it is told once, and the book is not read until its next snapshot. That betrays a loss only when one of
    its levels is spoken of again; nothing else does where a venue counts no messages.
    """

    def __init__(self) -> None:
        self._books: dict[str, _Book] = {}

    def begin(self, message: Message, levels: Iterable[Change]) -> Levels | None:
        """A snapshot; None where the book is one of another channel. Raises `Repeated`."""
        book = self._books.get(message.symbol)
        if book is not None and book.levels is not None:
            if book.channel != message.channel:
                return None
            self._check_repeated(book, message)
        known: dict[str, tuple[int, str]] = {}
        self._books[message.symbol] = _Book(message.channel, message.source, known, message.name(), message.number)
        found = Levels([], [])
        for level in levels:
            assert level.price is not None and level.size is not None
            known[level.id] = (level.side, level.price)
            _put(found, level.side, level.price, level.size)
        return found

    def change(self, message: Message, changes: Iterable[Change]) -> Levels | None:
        """An update; None while the book waits for a snapshot, or is one of another channel.

        Raises `Missed`, `Late` or `Repeated`.
        """
        book = self._books.get(message.symbol)
        if book is None or book.levels is None or book.channel != message.channel:
            return None
        self._check_repeated(book, message)
        if book.number is not None and message.number is not None and message.number <= book.number:
            book.levels = None
            raise Late(
                "an update that should have come before another one; a snapshot is awaited",
                message.channel, message.symbol, seq_expected=book.number + 1, seq_got=message.number,
            )  # fmt: skip
        found = Levels([], [])
        for change in changes:
            side, price = self._place(book, message, change)
            if change.what == "delete":
                del book.levels[change.id]
                _put(found, side, price, "0")
                continue
            book.levels[change.id] = (side, price)
            if change.size is not None:
                _put(found, side, price, change.size)
        book.last, book.number = message.name(), message.number
        return found

    def forget(self, symbol: str) -> None:
        """Something of this book is not known: it waits for a snapshot."""
        if symbol in self._books:
            self._books[symbol].levels = None

    def forget_all(self, source: str) -> None:
        """The same of all books of a connection."""
        for book in self._books.values():
            if book.source == source:
                book.levels = None

    def snapshot(self) -> dict[str, Any]:
        return {symbol: book.plain() for symbol, book in self._books.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._books = {symbol: _Book.of(plain) for symbol, plain in state.items()}

    def _place(self, book: _Book, message: Message, change: Change) -> tuple[int, str]:
        assert book.levels is not None
        there = book.levels.get(change.id)
        if change.what == "insert":
            if there is None and change.price is not None:
                return change.side, change.price
            said = "is there already, so that its delete is missing"
        elif there is None:
            said = "is not there, so that its insert is missing"
        elif there[0] == change.side and (change.price is None or _are_equal(change.price, there[1])):
            return there
        else:
            said = "is another one by what is known, so that a message about it is missing"
        book.levels = None
        raise Missed(
            f"{change.what} of level {change.id}, which {said}; a snapshot is awaited",
            message.channel, message.symbol, seq_got=message.number,
        )  # fmt: skip

    def _check_repeated(self, book: _Book, message: Message) -> None:
        if book.last == message.name():
            raise Repeated("the same message came just before", message.channel, message.symbol, seq_got=message.number)


class _Book:
    """`levels`: side and price by id, None while a snapshot is awaited; `last` names the last message."""

    def __init__(
        self, channel: str, source: str, levels: dict[str, tuple[int, str]] | None, last: str, number: int | None
    ) -> None:
        self.channel, self.source, self.levels, self.last, self.number = channel, source, levels, last, number

    def plain(self) -> dict[str, Any]:
        levels = self.levels
        return {
            "channel": self.channel,
            "source": self.source,
            "last": self.last,
            "number": self.number,
            "known": levels is not None,
            "ids": list(levels or ()),
            "sides": [side for side, _ in (levels or {}).values()],
            "prices": [price for _, price in (levels or {}).values()],
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> _Book:
        places = zip(plain["sides"], plain["prices"], strict=True)
        levels = dict(zip(plain["ids"], places, strict=True)) if plain["known"] else None
        return cls(plain["channel"], plain["source"], levels, plain["last"], plain["number"])


def _are_equal(one: str, two: str) -> bool:
    return one == two or Decimal(one) == Decimal(two)


def _put(levels: Levels, side: int, price: str, size: str) -> None:
    (levels.bids if side == BID else levels.asks).append((price, size))
