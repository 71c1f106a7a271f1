"""Scripts of faults that are drawn: any number of them, each apart from the others, so that each is told by itself."""

from __future__ import annotations

import random
from collections.abc import Sequence

from stages.serving import Cut, Disconnect, Drop, Duplicate, Fault, Reorder, Snapshot, Stall
from tests.stages.serving.recorded import OPENING, Served

APART = 6
"""Messages of a stream from one fault to the next, at least."""


def drawn(served: Served, seed: int, *, every: int = 12, disconnects: int = 2) -> list[Fault]:
    """Faults of all kinds at random places, one among about `every` messages of a stream."""
    dice = random.Random(seed)
    cuts = _disconnects(served, dice, disconnects)
    taken = [_taken(served, cut) for cut in cuts]
    found: list[Fault] = [*cuts]
    begun = max(served.places[depth][OPENING] for *_, depth in served.streams.values())
    for stream in (name for trades, _, depth in served.streams.values() for name in (trades, depth)):
        places = served.places[stream]
        number = next((at for at, place in enumerate(places, 1) if place > begun), len(places)) + 1
        while (number := number + dice.randrange(2 * (every - APART) + 1)) <= len(places) - APART:
            first, last = places[number - 3], places[number + 4]
            if not any(first <= end and begin <= last for begin, end in taken):
                found.append(_of_message(stream, number, dice))
            number += APART
    if dice.random() < 0.7:
        status = dice.choice([429, 500, 503])
        found.append(Snapshot(request=1 + dice.randrange(_requests(served, found)), status=status, retry_seconds=0))
    if dice.random() < 0.5:
        found.append(Stall(message=dice.randrange(begun, len(served.sent)), seconds=0.02))
    return found


def _of_message(stream: str, number: int, dice: random.Random) -> Fault:
    match dice.randrange(4):
        case 0:
            return Drop(stream=stream, message=number, count=dice.randrange(1, 3))
        case 1:
            return Duplicate(stream=stream, message=number)
        case 2:
            return Reorder(stream=stream, message=number)
        case _:
            return Cut(stream=stream, message=number, keep=dice.choice([None, 0, 1, 40]))


def _requests(served: Served, faults: Sequence[Fault]) -> int:
    """How often books are asked for, at least."""
    spoilt = sum(isinstance(fault, Drop | Reorder | Cut) and served.is_depth(fault.stream) for fault in faults)
    return len(served.streams) + spoilt


def _disconnects(served: Served, dice: random.Random, most: int) -> list[Disconnect]:
    """Each in a part of its own of the recording, at which all streams have messages before and behind."""
    begun = max(served.places[depth][2 * OPENING] for *_, depth in served.streams.values())
    over = min(places[-APART] for places in (served.places[depth] for *_, depth in served.streams.values()))
    found = []
    for part in range(most):
        length = (over - begun) // most
        first = begun + part * length
        place = first + dice.randrange(max(1, length // 3))
        lose = dice.choice([0, 1, dice.randrange(max(1, length // 3))])
        found.append(Disconnect(message=place + 1, lose=lose, code=dice.choice([1001, 1012, None])))
    return found


def _taken(served: Served, cut: Disconnect) -> tuple[int, int]:
    """From where to where in what is sent nothing else may go wrong: until books are whole again behind it."""
    first = served.place_of(cut)
    behind = served.behind(first + cut.lose)
    return first, max(served.places[stream][number - 1] for stream, number in behind.items())
