"""The command line: `penstock run`, `check`, `explain`, `plan`, `schema`, `report`, `demo` and `new`."""

from __future__ import annotations

import sys

INTERRUPTED = 130


def main() -> None:
    """The program; ends the process. Exit codes: 0 done, 1 failed, 2 bad configuration or usage, 130 interrupted."""
    try:
        from .program import penstock

        penstock(prog_name="penstock")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
