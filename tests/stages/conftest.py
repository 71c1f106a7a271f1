"""Where the real recordings lie, for tests that read them."""

from __future__ import annotations

from pathlib import Path

import pytest

RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def recordings() -> Path:
    """The folder of real recordings, which are not part of the project; tests skip where it is absent."""
    if not RECORDINGS.is_dir():
        pytest.skip(f"real recordings are not at {RECORDINGS}")
    return RECORDINGS
