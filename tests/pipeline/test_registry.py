"""Names for recipes: registered, in a module, or in a file of one's own; an unknown one is told with what is near."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import Context, Logic, Registry, Stage
from pipeline.registry import UnknownType
from pipeline.stage import Recipe

MINE = """
from pipeline import Stage

class Mine(Stage, frozen=True):
    n: int = {n}

class Plain:
    pass

number = 7
"""


class Here(Stage, frozen=True):
    def build(self, context: Context) -> Logic:
        raise NotImplementedError


class Part(Recipe, frozen=True):
    pass


@pytest.fixture(autouse=True)
def modules() -> Iterator[None]:
    """Files that were imported here are forgotten."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("penstock_user_") or name == "lying_about":
            del sys.modules[name]


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.add("here", Here)
    registry.add("part", Part)
    return registry


def test_a_registered_name_is_found_and_is_of_its_family(registry: Registry) -> None:
    assert registry.find("here", Stage) is Here
    assert registry.find("part", Recipe) is Part
    with pytest.raises(UnknownType, match="'part' is Part, which is not a Stage"):
        registry.find("part", Stage)
    assert list(registry) == ["here", "part"]
    assert (registry.names(Stage), registry.names()) == (["here"], ["here", "part"])


def test_an_unknown_name_is_told_with_a_near_one_or_all(registry: Registry) -> None:
    with pytest.raises(UnknownType, match=r"no stage is called 'hear'; did you mean 'here'\?"):
        registry.find("hear", Stage)
    with pytest.raises(UnknownType, match="known: here, part"):
        registry.find("zzz", Recipe)


def test_a_name_is_given_once(registry: Registry) -> None:
    registry.add("here", Here)
    with pytest.raises(ValueError, match="two recipes are called 'here'"):
        registry.add("here", type("Other", (Stage,), {}, frozen=True))
    registry.add_topology("graph", dict)
    registry.add_topology("graph", dict)
    with pytest.raises(ValueError, match="two topologies are called 'graph'"):
        registry.add_topology("graph", list)
    registry.add_report("page", print)
    registry.add_report("page", print)
    with pytest.raises(ValueError, match="two reports are called 'page'"):
        registry.add_report("page", len)
    registry.add_record("reading", pa.schema([("value", pa.int64())]))
    registry.add_record("reading", pa.schema([("value", pa.int64())]))
    with pytest.raises(ValueError, match="two kinds of record are called 'reading'"):
        registry.add_record("reading", pa.schema([("value", pa.int32())]))


def test_a_registry_is_a_value(registry: Registry) -> None:
    assert "here" not in Registry().recipes and Registry() == Registry()


def test_a_class_is_found_in_a_module(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lying_about.py").write_text(MINE.format(n=1))
    monkeypatch.syspath_prepend(tmp_path)
    assert registry.find("lying_about:Mine", Stage).__name__ == "Mine"
    with pytest.raises(UnknownType, match="'lying_about' has no class 'Yours'"):
        registry.find("lying_about:Yours", Stage)
    with pytest.raises(UnknownType, match="cannot import module 'nowhere' of 'nowhere:Mine'"):
        registry.find("nowhere:Mine", Stage)


def test_a_class_is_found_in_a_file_beside_the_configuration(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE.format(n=1))
    found = registry.find("./mine.py:Mine", Stage, tmp_path)
    assert found is registry.find("mine.py:Mine", Stage, tmp_path), "the same class, however often it is asked for"
    assert found is registry.find(f"{tmp_path}/mine.py:Mine", Stage)


def test_an_edited_file_is_read_again(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE.format(n=1))
    first = registry.find("./mine.py:Mine", Stage, tmp_path)
    (tmp_path / "mine.py").write_text(MINE.format(n=2))
    second = registry.find("./mine.py:Mine", Stage, tmp_path)
    assert (first().n, second().n) == (1, 2)  # type: ignore[attr-defined]
    (tmp_path / "mine.py").write_text(MINE.format(n=1))
    assert registry.find("./mine.py:Mine", Stage, tmp_path) is first


def test_files_of_one_name_in_two_folders_are_two_modules(registry: Registry, tmp_path: Path) -> None:
    for n in (1, 2):
        (tmp_path / str(n)).mkdir()
        (tmp_path / str(n) / "mine.py").write_text(MINE.format(n=n))
    assert [registry.find("./mine.py:Mine", Stage, tmp_path / str(n))().n for n in (1, 2)] == [1, 2]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("./none.py:Mine", "there is no file .*none.py"),
        ("./mine.py:Yours", "has no class 'Yours'"),
        ("./mine.py:Plain", "is Plain, which is not a Stage"),
        ("./mine.py:number", "is int, which is not a Stage"),
        ("./broken.py:Mine", "broken.py cannot be imported: SyntaxError"),
        ("./failing.py:Mine", "failing.py cannot be imported: ZeroDivisionError: division by zero \\(line 1: 1 / 0\\)"),
        ("./leaving.py:Mine", "leaving.py cannot be imported: SystemExit: 3 .line 2: sys.exit"),
        ("./odd.py:Mine", r"odd.py cannot be imported: TypeError: .* .line 3: class Mine.Struct.:"),
    ],
)
def test_what_cannot_be_had_from_a_file_says_why(registry: Registry, tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "mine.py").write_text(MINE.format(n=1))
    (tmp_path / "broken.py").write_text("class Mine(")
    (tmp_path / "failing.py").write_text("1 / 0")
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "odd.py").write_text("from msgspec import Struct\n\nclass Mine(Struct):\n    a: int = 1\n    b: int\n")
    with pytest.raises(UnknownType, match=words):
        registry.find(name, Stage, tmp_path)


def test_a_file_that_failed_can_be_mended(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("1 / 0")
    for _ in range(2):
        with pytest.raises(UnknownType):
            registry.find("./mine.py:Mine", Stage, tmp_path)
    (tmp_path / "mine.py").write_text(MINE.format(n=3))
    assert registry.find("./mine.py:Mine", Stage, tmp_path)().n == 3  # type: ignore[attr-defined]


def test_installed_packages_offer_the_markets_stages() -> None:
    registry = Registry.installed()
    assert {"replay", "synthetic", "bars", "features", "portfolio", "execution", "parquet"} <= set(registry)
    assert "backtest" in registry.topologies
    assert "backtest" in registry.reports
    assert {"trade", "book_delta", "quality_event"} <= set(registry.records)
