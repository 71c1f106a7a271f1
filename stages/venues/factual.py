"""A decoder that reads messages one at a time as facts; venues say how theirs are read."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import msgspec

from stages.messages import MessageKind, Messages
from stages.schemas import Records

from .fact_rows import ROWS, Facts
from .facts import Fact, Trade, Unreadable, check
from .venue import Decoder

Found: TypeAlias = list[Fact] | str
"""Facts of a message, or what kind of control message it is."""

REFUSALS = (Unreadable, msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError)
_READ = (MessageKind.RECEIVED, MessageKind.RESPONSE)
_TRADE_ID = re.compile(rb'"trade_id":\s*"?(\d{1,18})"?\s*[,}]')
_SHOWN = 200
_LONGEST = 64
"""Letters of a symbol."""


class About(NamedTuple):
    """What can be told of a message that cannot be read: its channel and its symbol, each where it is known."""

    channel: str | None = None
    symbol: str | None = None


class FactualDecoder(Decoder):
    """Reads messages by a venue's `read`; what cannot be read is one quality event, about what `about` makes out.

    Trades that a venue sends again after subscribing, for those who missed them, are left out where they are known: by
    number, of which the highest of each instrument is remembered.
    """

    def __init__(self, suffix: str) -> None:
        super().__init__()
        self._suffix = suffix
        self._traded: dict[str, int] = {}

    @abstractmethod
    def read(self, payload: bytes, url: str, source: str) -> Found:
        """What a message says; what is remembered of it only changes where it can be read. Raises one of REFUSALS."""

    def about(self, payload: bytes, source: str) -> About:
        """What can be made out of a message that cannot be read."""
        return About()

    def unread(self, about: About, source: str) -> None:
        """A message of this connection could not be read: what it may have been about is not sure any more."""

    def begun(self, source: str) -> None:
        """A connection was opened or lost: what is remembered of it holds no longer."""

    def traders_of(self, payload: bytes) -> set[str]:
        """Symbols whose next trade has a number that can be made out in a message; all traded ones where none has."""
        numbers = {int(number) for number in _TRADE_ID.findall(payload)}
        return {symbol for symbol, highest in self._traded.items() if highest + 1 in numbers} or set(self._traded)

    def decode(self, messages: Messages, records: Records) -> None:
        codes: dict[str, int] = {}
        found: dict[type, Facts] = {}
        payloads = messages.payload.to_pylist()
        for at, (kind, payload) in enumerate(zip(messages.kind.tolist(), payloads, strict=True)):
            source = messages.source[messages.source_code[at]]
            if kind not in _READ:
                self.control[MessageKind(kind).name.lower()] += 1
                if kind in (MessageKind.OPENED, MessageKind.CLOSED):
                    self.begun(source)
                continue
            try:
                facts = self._facts(payload, messages.url[messages.url_code[at]], source)
            except REFUSALS as error:
                self._refuse(at, error, self._subject(error, payload, source), records)
                continue
            for fact in facts:
                if fact.symbol not in codes:
                    codes[fact.symbol] = records.instruments.code(f"{fact.symbol}.{self._suffix}")
                group = found.setdefault(type(fact), Facts([], [], []))
                group.at.append(at)
                group.codes.append(codes[fact.symbol])
                group.facts.append(fact)
        for form, group in found.items():
            ROWS[form](group, records)

    def snapshot(self) -> dict[str, Any]:
        return {"traded": dict(self._traded)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._traded = dict(state["traded"])

    def _facts(self, payload: bytes, url: str, source: str) -> list[Fact]:
        """Facts to make rows of; a message without any is counted."""
        found = self.read(payload, url, source)
        if isinstance(found, str):
            self.control[found] += 1
            return []
        new = [fact for fact in found if not self._is_known(fact)]
        if not new:
            self.control["trades known already" if found else "nothing new"] += 1
        return new

    def _is_known(self, fact: Fact) -> bool:
        if not isinstance(fact, Trade) or fact.number is None:
            return False
        highest = self._traded.get(fact.symbol, -1)
        if fact.again and fact.number <= highest:
            return True
        self._traded[fact.symbol] = max(highest, fact.number)
        return False

    def _subject(self, error: Exception, payload: bytes, source: str) -> About:
        if isinstance(error, Unreadable) and error.channel is not None:
            return About(error.channel, error.symbol)
        about = self.about(payload, source)
        self.unread(about, source)
        return about

    def _refuse(self, at: int, error: Exception, about: About, records: Records) -> None:
        if isinstance(error, Unreadable):
            detail = str(error)
        elif isinstance(error, RecursionError):
            detail = "expected a message of the venue, found one nested too deeply"
        else:
            detail = f"expected a message of the venue: {error}"[:_SHOWN]
        known = about.symbol is not None and 0 < len(about.symbol) <= _LONGEST
        records.quality(
            at,
            error.kind if isinstance(error, Unreadable) else Unreadable.kind,
            channel=about.channel,
            instrument_id=f"{about.symbol}.{self._suffix}" if known else None,
            action_taken="left out",
            detail=detail,
            keep_raw=True,
            **(error.told if isinstance(error, Unreadable) else {}),
        )


def checked(facts: list[Fact]) -> list[Fact]:
    """The facts, each of which is one that can be. Raises `Unreadable`."""
    for fact in facts:
        check(fact)
        if not 0 < len(fact.symbol) <= _LONGEST:
            raise Unreadable(f"expected a symbol of 1 to {_LONGEST} letters, found {fact.symbol!r:.80}")
    return facts
