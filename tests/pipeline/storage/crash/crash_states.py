"""Every state a crash can leave a `MemoryDisk` in, rebuilt from its recording."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import xxhash
from crash_disk import Cut, File, Folder, Operation, State, Written, changed, stepped

STYLES = ("none", "all", "prefix", "zeros", "garbled", "holes", "worn")
"""What a power loss makes of bytes that were not synced; `worn`: a few of them are others of their kind."""
ORDERS = ("none", "all", "prefix", "subset")
"""And of names: in order up to some point, or any of them."""
EXTREMES = [("none", "none"), ("none", "all"), ("all", "none"), ("all", "all"), ("zeros", "all"), ("garbled", "all")]


class Crash(NamedTuple):
    """A state of the disk behind a crash, and what had been promised before it."""

    state: State
    acked: list[Any]
    kind: str
    """`kill`: the process died and the page cache lives on; `power`: what was certain and any part of the rest."""
    position: int
    """Number of the operation in the recording before which it happened."""
    how: str

    @property
    def digest(self) -> int:
        """Tells states apart by what they hold and what was promised."""
        digest = xxhash.xxh3_64(self.kind.encode())
        for path, content in self.state.tree().items():
            digest.update(path.encode())
            digest.update(b"\0" if content is None else b"\1%d\0" % len(content) + content)
        digest.update(repr(self.acked).encode())
        return digest.intdigest()


def crashes(
    begin: State, log: Sequence[Operation], *, mixes: int, seed: int = 0, acked: Sequence[Any] = ()
) -> Iterator[Crash]:
    """States after a crash before each operation of a recording and behind the last; `mixes` random ones of each.

    Only where something changed since the one before. `begin` is left as it was.
    """
    state = begin.copy()
    promised = list(acked)
    for position, operation in enumerate([*log, None]):
        chance = random.Random(seed * 1_000_003 + position)
        yield Crash(state.copy(), list(promised), "kill", position, "killed")
        if isinstance(operation, Operation) and operation.what == "write" and len(operation.arguments[2]) > 1:
            number, offset, piece = operation.arguments
            torn = state.copy()
            torn.apply(Operation("write", (number, offset, piece[: chance.randrange(1, len(piece))])))
            yield Crash(torn, list(promised), "kill", position, "killed in a write")
        if unsure(state):
            for style, order in EXTREMES:
                yield Crash(
                    power_loss(state, chance, style, order), list(promised), "power", position, f"{style}/{order}"
                )
            for _ in range(mixes):
                left = power_loss(state, chance)
                yield Crash(left, list(promised), "power", position, "mixed")
        if operation is None:
            return
        if operation.what == "ack":
            promised.append(operation.arguments[0])
        else:
            state.apply(operation)


def unsure(state: State) -> bool:
    return any(node.unsure for node in state.nodes.values())


def power_loss(state: State, chance: random.Random, style: str = "", order: str = "") -> State:
    """What is left after the power went: nothing of it is unsure. Without a style each file has one of its own."""
    left = State(state.root)
    left.next_number = state.next_number
    for number, node in state.nodes.items():
        if isinstance(node, File):
            content = _bytes_left(node, style or chance.choice(STYLES), chance)
            left.nodes[number] = File(number, content, content)
        else:
            names = _names_left(node, order or chance.choice(ORDERS), chance)
            left.nodes[number] = Folder(number, names, dict(names))
    return left


def _names_left(folder: Folder, order: str, chance: random.Random) -> dict[str, int]:
    steps = folder.unsure
    match order:
        case "none":
            steps = []
        case "prefix":
            steps = steps[: chance.randint(0, len(steps))]
        case "subset":
            steps = [step for step in steps if chance.random() < 0.5]
    names = dict(folder.certain)
    for step in steps:
        names = stepped(names, step)
    return names


def _bytes_left(file: File, style: str, chance: random.Random) -> bytes:
    content = file.certain
    changes = file.unsure
    if style == "none" or not changes:
        return content
    if style == "all":
        for change in changes:
            content = changed(content, change)
        return content
    total = sum(len(change.piece) for change in changes if isinstance(change, Written))
    left = 0 if style in ("holes", "worn") else chance.randint(0, total)
    for change in changes:
        if isinstance(change, Cut):
            if style != "holes" or chance.random() < 0.5:
                content = changed(content, change)
            continue
        piece = change.piece
        if style == "worn":
            kept = _worn(piece, chance)
        elif style == "holes":
            kept = piece if chance.random() < 0.5 else bytes(len(piece))
        else:
            kept = piece[:left]
            left -= len(kept)
            missing = len(piece) - len(kept)
            if style == "zeros":
                kept += bytes(missing)
            elif style == "garbled":
                kept += chance.randbytes(missing)
            elif missing:
                return changed(content, Written(change.offset, kept)) if kept else content
        content = changed(content, Written(change.offset, kept))
    return content


def _worn(piece: bytes, chance: random.Random) -> bytes:
    worn = bytearray(piece)
    for _ in range(chance.randint(1, 3) if piece else 0):
        worn[chance.randrange(len(worn))] = chance.choice(piece)
    return bytes(worn)
