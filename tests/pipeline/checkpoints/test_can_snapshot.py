"""Whether a logic gives its state to a checkpoint."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import Batch, Transform


class Forgetful(Transform):
    def on_batch(self, batch: Batch) -> None:
        return None


class Giving(Forgetful):
    def snapshot(self) -> Any:
        return {}


class Remembering(Giving):
    def restore(self, state: Any) -> None:
        return None


class Choosing(Remembering):
    def __init__(self, can: bool) -> None:
        self.can = can

    @property
    def can_snapshot(self) -> bool:
        return self.can


def test_r6_a_logic_gives_its_state_where_it_also_takes_it_back() -> None:
    assert [kind().can_snapshot for kind in (Forgetful, Giving, Remembering)] == [False, False, True]


def test_r6_a_logic_may_say_for_itself_whether_it_can() -> None:
    assert [Choosing(can).can_snapshot for can in (True, False)] == [True, False]


def test_a_logic_that_gives_no_state_says_so_when_it_is_asked() -> None:
    with pytest.raises(NotImplementedError, match=r"Forgetful does not define snapshot\(\)"):
        Forgetful().snapshot()
    with pytest.raises(NotImplementedError, match=r"Forgetful does not define restore\(\)"):
        Forgetful().restore({})
