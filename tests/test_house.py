"""The rules of the house: who may import whom, and how long things are (docs/design.md)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import house

ROOT = Path(__file__).parents[1]
MODULES = house.modules_of(ROOT, "arena", "agents")
GRAPH = house.graph_of(MODULES)
AGENTS = [name for name in MODULES if name.startswith("agents.")]
DOORS = ("agents", "arena.players", "arena.rules", "arena.draws", "arena.classifiers", "arena.training")
"""What agents import from; `HOSTS` besides, who let another agent play against them."""
HOSTS = {
    "agents.defenders.parts.rehearsal": ("arena.game.checks", "arena.game.driver"),
}


def test_nothing_imports_from_a_floor_above() -> None:
    own = {n: {o for o in others if o != "arena"} for n, others in GRAPH.items() if n.startswith("arena.")}
    assert house.upward(own) == []


def test_every_folder_and_loose_module_has_its_floor() -> None:
    assert {house.unit_of(name) for name in MODULES if name.startswith("arena.")} <= {*house.FLOORS}
    assert house.loose({n: f for n, f in MODULES.items() if n.startswith("arena.")}) == [
        "arena.api",
        "arena.draws",
        "arena.interruptions",
        "arena.messages",
        "arena.modes",
        "arena.progress",
        "arena.provenance",
        "arena.statistics",
        "arena.surroundings",
    ]


def test_no_two_files_import_each_other() -> None:
    assert house.circles(GRAPH) == []


def test_arena_knows_no_agent() -> None:
    assert not [(n, o) for n in GRAPH for o in GRAPH[n] if n.startswith("arena") and o.startswith("agents")]


@pytest.mark.parametrize("name", AGENTS)
def test_agents_know_the_interfaces_alone(name: str) -> None:
    allowed = DOORS + HOSTS.get(name, ())
    assert not [
        other for other in GRAPH[name] if other.startswith("arena.") and not other.startswith(allowed)
    ]


def test_a_strategy_imports_no_helper_from_another_folder_of_strategies() -> None:
    """What several share lies in parts; what is itself an attacker may be built on by others."""
    parts = [n for n in GRAPH if n.startswith("agents.attackers.parts")]
    assert not [
        (n, o) for n in parts for o in GRAPH[n] if o.startswith("agents.attackers") and o not in parts
    ]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_files_are_small(name: str) -> None:
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= 400


def test_circles_and_floors_are_seen(tmp_path: Path) -> None:
    for name, text in {
        "rules/a": "from arena.game.b import B",
        "game/b": "def f():\n    from arena.rules import a",
        "game/c": "from arena.log import questions",
        "log/questions": "",
        "attic": "",
    }.items():
        file = tmp_path / "arena" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        (file.parent / "__init__.py").touch()
    modules = house.modules_of(tmp_path, "arena")
    graph = house.graph_of(modules)
    assert house.circles(graph) == [["arena.game.b", "arena.rules.a"]]
    assert ("arena.rules.a", "arena.game.b") in house.upward(graph)
    assert ("arena.game.c", "arena.log") in house.upward(graph) or (
        "arena.game.c",
        "arena.log.questions",
    ) in house.upward(graph)
    assert ("arena.game.b", "arena.rules.a") not in house.upward(graph)
    assert house.loose(modules) == ["arena.attic"]


def test_no_file_holds_the_marks_of_a_merge() -> None:
    marks = ("<" * 7 + " ", ">" * 7 + " ")
    parts = ("agents", "arena", "bench", "docs", "scenarios", "tests")
    kinds = {".html", ".md", ".py", ".toml"}
    files = [file for part in parts for file in (ROOT / part).rglob("*") if file.suffix in kinds]
    lines = ((file, line) for file in files for line in file.read_text(encoding="utf-8").splitlines())
    assert len(files) > 500
    assert not {file.name for file, line in lines if line.startswith(marks)}
