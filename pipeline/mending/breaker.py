"""Counts dead rows among the last so many, exactly, and says when they are too many."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from fractions import Fraction


class Breaker:
    """Allows a share of any `window` rows in a row to be dead; it remembers no more places than that."""

    def __init__(self, max_share: float, window: int) -> None:
        self.window = window
        self.allowed = int(Fraction(repr(max_share)) * window)
        """Dead rows that any `window` consecutive rows may hold."""
        self._places: deque[int] = deque()

    def trips(self, place: int) -> bool:
        """The row at this place, counted over all that came, is dead: whether there are now too many. In order."""
        places = self._places
        while places and places[0] <= place - self.window:
            places.popleft()
        places.append(place)
        return len(places) > self.allowed

    @property
    def places(self) -> Sequence[int]:
        """Places of the dead rows that still count."""
        return tuple(self._places)

    def put_back(self, places: Sequence[int]) -> None:
        """Take back what `places` gave."""
        self._places = deque(places)
