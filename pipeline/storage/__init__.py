"""What lasts: segments, the journal, the manifest, and what a folder remembers.

A run's folder is a `StorageRoot` (`storage/root.py`): held by one process (`lock.py`), brought to what is committed
before anything of it is used (`recovery.py`), one epoch per process.

    LOCK               who has it              MANIFEST-000007    what is committed: a checksummed line of JSON each
    <phase>/...        results, as published   wal/000012.seg     the journal: all containers' records, in order
    checkpoints/       the last of each phase  spill/<epoch>/     gone with its process
    quarantine/        what was found damaged, copied or moved here, never removed

Data is written under a temporary name, synced, renamed, its folder synced; then a line of the manifest names it: when
that is synced, it counts. Several lines are one commit, all or none; each tells what had been on disk when it was
written, so that recovery tells a torn end, which it cuts, from damage, which it refuses without `--repair`. Commits
of many containers share a sync (`group.py`), as the journal's records do (`journal.py` gathers on the loop,
`journal_writer.py` writes). A record is bound to its place (`journal_records.py`): copied elsewhere it is none. A
file that could not be synced is never synced again: what it held is written anew, once. Readers take no lock, and see
what the manifest lists (`manifest.py`).
"""
