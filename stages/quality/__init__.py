"""What is wrong with recorded data: quality events of a run or a recording as one table, and as a picture."""
