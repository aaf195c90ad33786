"""The rules of the house: who may import whom, and how long things are (DESIGN.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ARENA = sorted((ROOT / "arena").rglob("*.py"))
AGENTS = sorted((ROOT / "agents").rglob("*.py"))
ALLOWED = (
    "agents",
    "arena.players",
    "arena.rules.threat",
    "arena.rules.geometry",
    "arena.draws",
    "arena.classifiers",
)


def imported(file: Path) -> set[str]:
    """The modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("file", ARENA, ids=lambda f: str(f.relative_to(ROOT)))
def test_arena_knows_no_agent(file: Path) -> None:
    assert not [name for name in imported(file) if name.split(".")[0] == "agents"]


@pytest.mark.parametrize("file", AGENTS, ids=lambda f: str(f.relative_to(ROOT)))
def test_agents_know_the_interfaces_alone(file: Path) -> None:
    own = [name for name in imported(file) if name.split(".")[0] in ("arena", "agents", "scenarios")]
    assert not [name for name in own if not name.startswith(ALLOWED)]


@pytest.mark.parametrize("file", [*ARENA, *AGENTS], ids=lambda f: str(f.relative_to(ROOT)))
def test_files_are_small(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 400
