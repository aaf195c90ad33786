"""All agents that are registered pass the checks, each around stand-ins where it needs an agent inside."""

from __future__ import annotations

import pytest

from arena.registry import Kind, names
from arena.testing import example, run_checks

AGENTS: list[tuple[Kind, str]] = [(kind, name) for kind in ("attacker", "defender") for name in names(kind)]


def test_agents_are_registered() -> None:
    assert {("attacker", "square"), ("defender", "none")} <= set(AGENTS)


@pytest.mark.parametrize(("kind", "name"), AGENTS, ids=[f"{kind}-{name}" for kind, name in AGENTS])
def test_a_registered_agent_passes_all_checks(kind: Kind, name: str) -> None:
    outcomes = run_checks(example(kind, name))
    assert {o.name: o.sentence for o in outcomes if o.verdict != "passed"} == {}
