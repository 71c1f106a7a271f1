"""What becomes of calls that fail: tried again, cut down to the rows to blame, put aside, or begun anew.

`mender.py` stands in the caller's place: it repeats a call, brings the logic back to the state before, and halves a
batch down to the rows to blame, which `dead_letters.py` keeps and `breaker.py` counts. `restarting.py` decides
whether a phase that failed begins again; `replaying.py` gives dead letters to a graph once more.
"""
