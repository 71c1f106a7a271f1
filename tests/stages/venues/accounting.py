"""What decoders must make of spoilt messages."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from stages.messages import Messages
from stages.schemas import Names
from stages.venues import Venue
from tests.stages.venues.binance.binance_decoding import batches, received
from tests.stages.venues.damage import damaged


def check_damage(venue: Venue, kinds: Sequence[bytes], clean: bytes, rounds: int, seed: int) -> int:
    """Spoil each kind of message so many times, a clean one after each; how many were told.

    No exception; of each message rows, or one event with its bytes, or a count; the clean ones stay what they are.
    """
    chance = random.Random(seed)
    payloads: list[bytes] = []
    for kind in kinds:
        for _ in range(rounds):
            payloads += [damaged(kind, chance), clean]
    messages = received(*payloads)
    decoder = venue.decoder()
    found = batches(decoder, messages, Names())
    told = Counter(
        seq for kind, batch in found.items() if kind != "quality_event" for seq in pc.unique(batch["ingest_seq"])
    )
    events = found["quality_event"]
    seqs = events["ingest_seq"].to_pylist()
    assert len(seqs) == len(set(seqs))
    assert events["raw"].to_pylist() == [payloads[seq] for seq in seqs] and all(events["detail"].to_pylist())
    assert len({seq.as_py() for seq in told} | set(seqs)) + sum(decoder.control.values()) == len(payloads)
    alone = batches(venue.decoder(), Messages.of([row for row in messages if row.ingest_seq % 2]), Names())
    for kind, batch in alone.items():
        odd = pc.equal(pc.bit_wise_and(found[kind]["ingest_seq"], pa.scalar(1, pa.uint64())), pa.scalar(1, pa.uint64()))
        assert _named(found[kind].filter(odd)).equals(_named(batch))
    return len(seqs)


def check_cuts(venue: Venue, message: bytes) -> None:
    """A message cut anywhere is one event with its bytes."""
    payloads = [message[:end] for end in range(len(message))]
    (events,) = batches(venue.decoder(), received(*payloads), Names()).values()
    assert events["ingest_seq"].to_pylist() == list(range(len(message)))
    assert events["raw"].to_pylist() == payloads
    assert set(events["kind"].to_pylist()) == {"parse_error"}


def _named(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Names instead of codes, which may have shifted."""
    arrays = [array.dictionary_decode() if pa.types.is_dictionary(array.type) else array for array in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)
