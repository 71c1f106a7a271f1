"""What the tests of the data managers share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.storage.workspace import Workspace


@pytest.fixture
async def workspace(tmp_path: Path) -> AsyncIterator[Workspace]:
    workspace = Workspace(tmp_path / "work")
    yield workspace
    await workspace.close()
    assert workspace.io.threads == 0
    assert workspace.loaned_bytes == 0
    assert not (tmp_path / "work" / "spill").exists()
