"""Looking at a folder from outside, and reading it from end to end, without changing anything."""
