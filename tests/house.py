"""The house in numbers: who imports whom (docs/design.md, "The house").

python tests/house.py [FOLDER]     # of this checkout, or of another one
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

FLOORS = (
    "draws",
    "statistics",
    "messages",
    "interruptions",
    "inputs",
    "modes",
    "surroundings",
    "progress",
    "provenance",
    "rules",
    "datasets",
    "classifiers",
    "training",
    "players",
    "records",
    "game",
    "isolation",
    "evaluation",
    "log",
    "scenario",
    "running",
    "league",
    "report",
    "notebook",
    "envs",
    "conformance",
    "cli",
    "api",
)
"""What lies in `arena`, bottom up; each imports from those before it alone."""

Graph = dict[str, set[str]]


def modules_of(root: Path, *tops: str) -> dict[str, Path]:
    """The modules below some folders of a checkout, by name; a package goes by its own."""
    found = {}
    for file in sorted(path for top in tops for path in (root / top).rglob("*.py")):
        name = ".".join(file.relative_to(root).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = file
    return found


def imported(file: Path) -> set[str]:
    """The names that a file imports, anywhere in it: modules, and what may be modules or parts of them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def graph_of(modules: Mapping[str, Path]) -> Graph:
    """Which of the modules each of them imports from."""
    graph: Graph = {}
    for name, file in modules.items():
        asked = imported(file)
        # `from package import name` is from the module of that name, else from the package itself.
        hit = {n if n in modules else n.rpartition(".")[0] for n in asked}
        graph[name] = {n for n in hit if n in modules and n != name}
    return graph


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The sets of modules that import each other, directly or through others (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = []
            while not group or group[-1] != node:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return sorted(found)


def unit_of(module: str) -> str:
    """What lies directly in `arena`: a folder, or a loose module."""
    return module.split(".")[1] if "." in module else ""


def upward(graph: Graph) -> list[tuple[str, str]]:
    """Imports within `arena` from a floor above, or from one that has no place in FLOORS."""
    floor = {unit: place for place, unit in enumerate(FLOORS)}
    return sorted(
        (name, other)
        for name, others in graph.items()
        for other in others
        if unit_of(name) and unit_of(other) and unit_of(name) != unit_of(other)
        if floor.get(unit_of(other), len(FLOORS)) >= floor.get(unit_of(name), -1)
    )


def loose(modules: Mapping[str, Path]) -> list[str]:
    """The modules that lie directly in `arena`, beside its folders."""
    return sorted(n for n, file in modules.items() if n.count(".") == 1 and file.name != "__init__.py")


def main(root: Path) -> None:
    """Print the numbers of a checkout."""
    modules = modules_of(root, "arena", "agents")
    graph = graph_of(modules)
    arena = {n: {o for o in others if o.startswith("arena")} for n, others in graph.items() if n != "arena"}
    arena = {n: others - {"arena"} for n, others in arena.items() if n.startswith("arena.")}
    units: Graph = {unit_of(n): set() for n in arena}
    for name, others in arena.items():
        units[unit_of(name)] |= {unit_of(o) for o in others} - {unit_of(name)}
    between = sum(len(group) for group in circles(units))
    print(f"modules loose at the top of arena: {len([n for n in loose(modules) if n.startswith('arena.')])}")
    print(f"folders in arena: {len({unit_of(n) for n in arena if n.count('.') > 1})}")
    print(f"files in circles of imports: {sum(map(len, circles(graph)))}, in {len(circles(graph))} circles")
    print(f"folders and loose modules that import each other in a circle: {between}")
    known = any(unit in FLOORS[4:] for unit in units if unit not in ("datasets", "classifiers", "training"))
    if known and "rules" in units:
        print(f"imports from a floor above: {len(upward(arena))}")
    agents = [o for n in graph if n.startswith("arena") for o in graph[n] if o.startswith("agents")]
    print(f"imports of agents by arena: {len(agents)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
