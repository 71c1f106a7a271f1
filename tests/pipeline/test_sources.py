"""A stage's code is its file and those it imports, wherever in them it says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.sources import local_sources

STAGE = """
import os, json
from . import beside
from .deeper.leaf import Thing
if True:
    import plain
else:
    from deeper import other
try:
    pass
except ImportError:
    import handled
finally:
    import last
def f():
    with open("x"):
        for _ in ():
            while True:
                import within
    match 1:
        case 1:
            import matched
class C:
    async def g(self):
        import of_class
"""
NAMES = ("beside", "plain", "handled", "last", "within", "matched", "of_class")


def test_imports_are_found_wherever_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "a_stage_package"
    (package / "deeper").mkdir(parents=True)
    for name in (*NAMES, "never", "deeper/leaf", "deeper/other"):
        (package / f"{name}.py").write_text("import broken\n" if name == "plain" else "Thing = 1\n")
    (package / "broken.py").write_text("import never (\n")
    (package / "__init__.py").touch()
    (package / "deeper" / "__init__.py").touch()
    (package / "stage.py").write_text(STAGE)
    module = type(sys)("a_stage_package.stage")
    module.__file__ = str(package / "stage.py")
    monkeypatch.setitem(sys.modules, "a_stage_package.stage", module)
    found = {path.relative_to(package).as_posix() for path in local_sources(["a_stage_package.stage"])}
    deeper = {"deeper/__init__.py", "deeper/leaf.py", "deeper/other.py"}
    wanted = {f"{name}.py" for name in (*NAMES, "stage", "broken")} | deeper
    assert found - {"__init__.py"} == wanted
    (package / "broken.py").write_text("import never\n")
    assert package / "never.py" in local_sources(["a_stage_package.stage"])
