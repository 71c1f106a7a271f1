"""Runs every bench in a process of its own and writes the figures to bench/results.json."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    known = {path.stem for path in HERE.glob("*.py")}
    wanted = [name for name in sys.argv[1:] if name in known]
    options = [name for name in sys.argv[1:] if name not in known]
    results = {}
    failed = []
    for path in sorted(HERE.glob("*.py")):
        if path.stem in {"__init__", "__main__", "harness"} or (wanted and path.stem not in wanted):
            continue
        code = (
            f"import json, sys; from bench.{path.stem} import main; "
            "figures = main(); print('FIGURES ' + json.dumps(figures, default=str))"
        )
        process = subprocess.run(
            [sys.executable, "-c", code, *options], cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=False
        )
        for line in process.stdout.splitlines():
            if line.startswith("FIGURES "):
                results[path.stem] = json.loads(line.removeprefix("FIGURES "))
            else:
                print(line, flush=True)
        if process.returncode:
            failed.append(path.stem)
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    if failed:
        sys.exit(f"these failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
