from __future__ import annotations

import pytest

from tests.patience import SECONDS


@pytest.fixture(autouse=True)
def nobody_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes long to answer a closing frame is busy."""
    monkeypatch.setattr("stages.serving.server.CLOSE_SECONDS", SECONDS)
    monkeypatch.setattr("stages.live.line.CLOSE_SECONDS", SECONDS)
