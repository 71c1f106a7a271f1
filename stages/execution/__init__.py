"""What becomes of a thousand portfolios: they are ranked."""
