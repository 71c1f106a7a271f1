"""Consistent cuts through a running graph, and going on from them.

`taking.py` sends a barrier through every feed, between two batches. A container takes its cut at the first barrier
that reaches it (`cutting.py`) and goes on; what its other inputs still bring before theirs is recorded beside the cut
(`edges/under_way.py`), since stopping an input would stop a merge by time for ever. Where queues are long, containers
are asked directly, one behind the other, and the queues are recorded, short ones soon, long ones if waiting has not
helped; what of them is on the disk of an edge that spills stays there (`edges/kept.py`) until it is copied into the
file, batch by batch (`streaming.py`). States, what was under way and counters (`cuts.py`) become records
(`records.py`) of one file, which one line of the manifest commits (`files.py`). Results are in the journal already; a
container whose logic gives no state has its input there instead. Records count by their numbers: those up to the cut
of their container, of each attempt that led to it. `resuming.py` brings an equal graph to a checkpoint, `phase.py`
decides whether a phase goes on or begins anew. What live feeds gave is in the journal too, and told to them
(`Feed.had_given`).
"""
