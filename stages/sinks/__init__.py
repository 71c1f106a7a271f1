"""Where rows leave the process: the terminal and parquet files."""
