"""The house's floors: a module imports only from floors below its own, and the engine knows no market."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FLOORS = [
    {"errors", "clock", "durations", "machine", "report"},
    {"frames", "pool", "bell"},
    {"in_flight", "latest", "cuts"},
    {"edge", "threads", "lag", "hashing", "storage"},
    {"under_way", "joint", "dead_letters", "spilling", "ahead"},
    {"inbox", "outlet", "data", "windows", "checkpoint", "states"},
    {"stage", "checkpoint_files"},
    {"registry", "calling", "cutting", "pushing", "handed", "sources", "tolerance", "breaker"},
    {"config", "topology", "keeping", "stores", "overdue"},
    {"mending"},
    {"compose", "container", "walks", "restarting"},
    {"feeding"},
    {"phases", "checkpointing"},
    {"resuming"},
    {"identity", "summary", "engines", "budgets"},
    {"folder"},
    {"results", "subscription", "status", "places", "verified"},
    {"earlier", "inspection", "examining"},
    {"phase_checkpoints", "verification"},
    {"sequencer"},
    {"phasing", "retrieval"},
    {"service", "runs", "planning"},
    {"lookahead", "replaying"},
    {"testing", "cli"},
    {"__main__"},
]
"""Rooms of `pipeline/`, ground floor first. ARCHITECTURE.md tells the same from the top."""

STAGE_FLOORS = [
    {"schemas"},
    {"feeds", "features", "sinks"},
    {"portfolio"},
    {"execution"},
    {"backtest", "report"},
]
"""Rooms of `stages/`: strategies name features, execution ranks portfolios, the report shows what it ranked."""


def modules(package: str) -> Iterator[Path]:
    return (path for path in sorted((ROOT / package).rglob("*.py")) if path != ROOT / package / "__init__.py")


def room_of(name: str) -> str:
    """`pipeline.data.base` lies in the room `data`."""
    return name.split(".")[1] if "." in name else ""


def imports(path: Path) -> Iterator[str]:
    """Full names of what a module imports from this project, wherever in the module it does."""
    package = ".".join(path.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if not node.level:
                yield node.module or ""
                continue
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            if node.module:
                yield ".".join([*base, node.module])
            else:
                yield from (".".join([*base, alias.name]) for alias in node.names)


@pytest.mark.parametrize(("package", "floors"), [("pipeline", FLOORS), ("stages", STAGE_FLOORS)])
def test_no_module_imports_from_its_own_floor_or_above(package: str, floors: list[set[str]]) -> None:
    floor_of = {room: level for level, rooms in enumerate(floors) for room in rooms}
    wrong = []
    for path in modules(package):
        own = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        assert own in floor_of, f"{path.relative_to(ROOT)} has no floor; give it one here and in ARCHITECTURE.md"
        for name in imports(path):
            if name.split(".")[0] != package:
                continue
            room = room_of(name)
            if room != own and (room not in floor_of or floor_of[room] >= floor_of[own]):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_the_engine_knows_no_market() -> None:
    wrong = [path for path in modules("pipeline") if any(name.split(".")[0] == "stages" for name in imports(path))]
    assert not wrong


def test_markets_use_only_public_names_of_the_engine() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("stages")
        for name in imports(path)
        if name.startswith("pipeline.")
    ]
    assert not wrong


def test_no_file_has_grown_into_a_second_house() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for package in ("pipeline", "stages")
        for path in modules(package)
        if (lines := len(path.read_text().splitlines())) > 450
    }
    assert not long


def test_every_module_says_in_one_sentence_what_it_is_for() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for package in ("pipeline", "stages")
        for path in modules(package)
        if not (ast.get_docstring(ast.parse(path.read_text())) or "").strip()
    ]
    assert not wrong


def test_the_system_clock_and_unseeded_randomness_are_asked_only_where_they_are_wrapped() -> None:
    forbidden = ("time.time(", "time.time_ns(", "datetime.now(", "utcnow(", "random.random(", "uuid4(")
    wrong = [
        f"{path.relative_to(ROOT)}: {call}"
        for package in ("pipeline", "stages")
        for path in modules(package)
        if path.name != "clock.py"
        for call in forbidden
        if call in path.read_text()
    ]
    assert not wrong
