"""Looking at a folder from outside, and reading it from end to end, without changing anything.

Two readers are commands: `places.py` says which folder is meant, `inspection.py` what it holds, `verification.py`
whether it is as it was written; `storage/holder.py` learns from the kernel's list who holds it. What is found bad is
looked at again with what is listed by then, so that a writer is no damage.
"""
