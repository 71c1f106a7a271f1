"""Where rows come from: recordings on disk and a seeded market.

`replay.py` finds out what a path holds (`opening.py`): a recording of one kind of record, a capture, or several
sources. A capture (`captured.py`) is interpreted as live messages are, run by run. Several sources (`merged.py`) are
lanes of one merge (`merging.py`): what all of them have read is final up to the smallest of their newest stamps, and
is brought in order by one sort of stamp and place packed into an integer; `layout.py` tells whose rank lanes of our
own layout have. Where a replay begins in the middle, or is sought in (`Feed.seek`, `Run.seek`), it is read silently
up to there, and opens with its books (`beginning.py`). Rows of several kinds that cover the same time are one tuple;
limits, parts and what was sent before a checkpoint are reckoned by kind, so that cuts change nothing.
"""
