"""Stages at work: what runs a logic, feeds it, and keeps what it gives.

From outside, `pushing.py` feeds rows in and `subscription.py` of the engine reads output over an edge of its own. At
a speed, paused, or stepped a feed's batch is cut where its time has come (`pacing.py`). `cutting.py` takes a
container's part of a checkpoint.
"""
