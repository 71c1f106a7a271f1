"""The numbers of one connection's messages, which run through all its channels and products."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Numbers(Struct):
    """What arrived by a connection: each message has the number after the one before, whatever it is about.

    So a number that is missing may have been of any of its books. Each of these learns of it by its next update, which
    does not follow the last one then.
    """

    highest: int = -1
    hole: int = 0
    """Number of the first message behind the last hole."""
    unread: int = 0
    """Messages that came since the highest, without a number that could be read."""
    books: dict[str, int] = {}
    """The last number of each product's book."""

    def arrived(self, number: int) -> None:
        """A message with this number came. With 0 a connection begins."""
        if self.highest < 0 or number == 0:
            self.hole, self.books, self.highest = number, {}, number
        elif number > self.highest + 1 + self.unread:
            self.hole = number
        self.highest = max(self.highest, number)
        self.unread = 0

    def book(self, product: str, number: int) -> int | None:
        """Of which number a book's update, which just arrived, is the next one: that of the book's last update, or the
        one before its own, where it is not known what came in between."""
        last = self.books.get(product, -1)
        self.books[product] = max(last, number)
        if last >= max(self.hole, 0):
            return last
        return number - 1 if number else None

    def plain(self) -> dict[str, Any]:
        return {"highest": self.highest, "hole": self.hole, "unread": self.unread, "books": dict(self.books)}
