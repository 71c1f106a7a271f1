"""Order books: kept level by level from deltas and snapshots, by each venue's own rules, never trusted across a gap."""
