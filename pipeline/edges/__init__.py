"""What joins containers: bounded queues, and how a container reads from several and sends to many.

`spilling/` has an edge whose overflow goes to disk and comes back in order. What is under way when a cut is taken is
recorded beside it (`under_way.py`); `in_flight.py` counts what all edges hold against the pool.
"""
