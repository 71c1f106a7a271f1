"""What a backtest has to show: one page that opens anywhere."""
