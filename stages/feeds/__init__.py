"""Where rows come from: recordings on disk and a seeded market.

`replay.py` finds out what a path holds (`opening.py`): a recording of one kind of record, a capture, or several
sources. A capture (`captured.py`) is interpreted as live messages are, run by run. Several sources (`merged.py`) are
lanes of one merge (`merging.py`): what all of them have read is final up to the smallest of their newest stamps, and
is brought in order by one sort of stamp and place packed into an integer. Of a recording, `layout.py` reads the
manifest: files that are committed and current, a lane for each kind and instrument, all of one rank; `own.py` reads
them as they were written. Heads of files of books are silent (`heads.py`), and rows that one message had of several
instruments come in its order, which `message_rows.py` of the recorder leaves in the files' metadata. So its rows are
those of its messages replayed. Where a replay begins in the middle, or is sought in (`Feed.seek`, `Run.seek`), it is
read silently up to there, and opens with its books (`beginning.py`).

Of trades and quotes in parquet the columns are read that consumers say they look at (`Stage.columns_read`,
`Topology.columns_taken`); all of them where one does not say, rows are kept or put aside, or somebody may subscribe:
a run that nobody watches, as the command line's, is started with `watched=False`. Rows of several kinds that cover
the same time are one tuple; limits, parts and what was sent before a checkpoint are reckoned by kind, so that cuts
change nothing.
"""
