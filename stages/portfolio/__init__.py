"""Portfolios: what a strategy wants, what it gets filled at, and how it did.

Rows become steps (`arrivals.py`, `tape.py`); blocks of them are decided (`deciders.py`) and accounted (`books.py`) in
the threads of a `crew.py`, members apart; `ledger.py` walks members through steps, `plain.py` from change to change
of a target where nothing else can happen, `rules.py` says what an order, an exit and a decision do, `marking.py` what
a close does. What comes of it leaves as columns of many members (`MemberRows`). Strategies whose rule is a `kernel`
are compiled, and all of a class are asked in one call (`kernel.py`); others are asked one by one. Members of several
classes of strategy (`Stage.grouped_by`) make several groups, `portfolio_rsi` beside `portfolio_sma_cross`; members
are numbered through.
"""
