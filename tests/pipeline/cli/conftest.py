from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.cli.program import penstock as program

Penstock = Callable[..., Result]


@pytest.fixture
def penstock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Penstock:
    """Calls the program in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str | Path) -> Result:
        return CliRunner().invoke(program, [str(word) for word in words], prog_name="penstock", catch_exceptions=False)

    return call
