"""Where rows come from: recordings on disk and a seeded market."""
