"""The house's floors: a module imports only from floors below its own, and the engine knows no market."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FLOORS = [
    {"errors", "clock", "durations", "machine", "report", "version", "lazily", "pacing"},
    {"frames", "pool", "edges.bell", "timeline"},
    {"edges.in_flight", "edges.kept", "edges.latest", "checkpoints.cuts"},
    {"edges.edge", "threads", "lag", "hashing", "storage"},
    {
        "edges.under_way",
        "edges.joint",
        "mending.dead_letters",
        "edges.spilling",
        "containers.ahead",
        "containers.pacing",
    },
    {
        "edges.inbox",
        "edges.outlet",
        "data",
        "windows",
        "checkpoints.records",
        "checkpoints.states",
        "checkpoints.streaming",
    },
    {"stage", "checkpoints.files"},
    {
        "registry",
        "containers.calling",
        "checkpoints.cutting",
        "containers.pushing",
        "handed",
        "sources",
        "mending.tolerance",
        "mending.breaker",
    },
    {"config", "topology", "containers.keeping", "stores", "recording", "mending.overdue"},
    {"mending.mender"},
    {"composing", "containers.container", "plans", "walks", "mending.restarting"},
    {"containers.feeding"},
    {"phases", "checkpoints.taking"},
    {"checkpoints.resuming"},
    {"identity", "summary", "engines", "budgets"},
    {"folder"},
    {"results", "subscription", "control", "status", "examination.places", "examination.verified"},
    {"earlier", "examination.inspection", "examination.examining"},
    {"checkpoints.phase", "examination.verification"},
    {"sequencer"},
    {"phasing", "retrieval"},
    {"service", "runs", "planning"},
    {"lookahead", "mending.replaying"},
    {"testing", "cli"},
    {"__main__"},
]
"""Rooms of `pipeline/`, ground floor first. ARCHITECTURE.md tells the same from the top."""

WINGS = {"checkpoints", "containers", "edges", "examination", "mending"}
"""Rooms that belong together and lie on floors of their own."""

STAGE_FLOORS = [
    {"schemas"},
    {"messages", "books"},
    {"venues"},
    {"interpreting", "quality"},
    {"feeds", "features", "live", "serving", "sinks"},
    {"portfolio", "recording"},
    {"execution"},
    {"backtest", "report"},
]
"""Rooms of `stages/`: books know no venue, strategies name features, execution ranks portfolios, the report shows what
it ranked."""


def modules(package: str) -> Iterator[Path]:
    return (path for path in sorted((ROOT / package).rglob("*.py")) if path != ROOT / package / "__init__.py")


def room_of(name: str) -> str:
    """`pipeline.data.base` lies in the room `data`, `pipeline.edges.inbox` in `edges.inbox`."""
    parts = name.split(".")
    return ".".join(parts[1:3] if parts[1:2] and parts[1] in WINGS else parts[1:2])


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
        if own.endswith(".__init__"):
            assert not list(imports(path)), f"{path.relative_to(ROOT)}: a wing says what it is, and no more"
            continue
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


@pytest.mark.parametrize("package", ["pipeline", "pipeline.data", "pipeline.lookahead"])
def test_what_is_imported_lazily_is_what_type_checkers_are_told_of(package: str) -> None:
    file = ROOT / package.replace(".", "/") / "__init__.py"
    [choice] = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.If)]
    told = {
        node.module: tuple(alias.name for alias in node.names)
        for node in choice.body
        if isinstance(node, ast.ImportFrom)
    }
    [call] = [node for node in ast.walk(ast.Module(choice.orelse, [])) if isinstance(node, ast.Call)]
    assert ast.literal_eval(call.args[1]) == told
    module = importlib.import_module(package)
    names = [name for names in told.values() for name in names]
    assert sorted(names) == sorted(module.__all__) and set(names) <= set(dir(module))
    hidden = {path.stem for path in file.parent.iterdir()} & set(names)
    assert not hidden, "importing a module of this name would hide the name"
    for name in names:
        getattr(module, name)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        module.nothing
