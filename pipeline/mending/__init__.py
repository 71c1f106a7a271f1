"""What becomes of calls that fail: tried again, cut down to the rows to blame, put aside, or begun anew."""
