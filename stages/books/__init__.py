"""Order books: kept level by level from deltas and snapshots, by each venue's own rules, never trusted across a gap.

Books are kept from deltas as received, each by the rule (`rule.py`) that its venue's file says. A batch is one
compiled call over all instruments (`kernel.py`) as long as each group is the next one of a live book; it stops at
whatever is not, and `turn.py` decides: wait and keep (`syncing.py`), join a snapshot, tell a gap, a duplicate, a late
update, a wrong checksum. Sides are sorted arrays with the best at the end (`levels.py`), all in two that grow
(`shelf.py`). `kept.py` makes the rows to publish: a book that is not trusted has none, and comes back whole.
"""
