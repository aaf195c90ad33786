"""Conformance checks that anybody can put an agent through, with `arena check` or in one line of a test.

    def test_my_attack():
        check_attacker(MyAttack())

They need no data: they make tiny worlds of their own, and take seconds.
"""

from __future__ import annotations

from collections.abc import Iterator

from arena.conformance.attacker_checks import attacker_checks, attacker_results, check_attacker
from arena.conformance.attacker_trials import BUDGET
from arena.conformance.defender_checks import check_defender, defender_checks, defender_results
from arena.conformance.examples import agents_of, example
from arena.conformance.results import Check, CheckResult, ConformanceError
from arena.conformance.watched_play import PATIENCE
from arena.players import Attacker, Defender

__all__ = [
    "Check",
    "CheckResult",
    "ConformanceError",
    "agents_of",
    "attacker_checks",
    "attacker_results",
    "check_attacker",
    "check_defender",
    "defender_checks",
    "defender_results",
    "example",
    "iter_checks",
    "run_checks",
]


def iter_checks(
    agent: Attacker | Defender | type[Attacker] | type[Defender],
    *,
    device: str = "cpu",
    budget: int = BUDGET,
    patience: float = PATIENCE,
) -> Iterator[CheckResult]:
    """Run all checks on an agent of either kind, each as it is asked for.

    Args:
        agent: an instance, or a class, which is made with its default parameters.
        device: where the images lie.
        budget: queries a game of an attacker's longest plays; the many short ones have a quarter of it.
        patience: seconds of processor time that an attacker may take for one move.
    """
    if isinstance(agent, type):
        (agent,) = agents_of(agent)
    if isinstance(agent, Attacker):
        return attacker_results(agent, device=device, budget=budget, patience=patience)
    return defender_results(agent, device=device)


def run_checks(
    agent: Attacker | Defender | type[Attacker] | type[Defender],
    *,
    device: str = "cpu",
    budget: int = BUDGET,
    patience: float = PATIENCE,
) -> list[CheckResult]:
    """All of `iter_checks`."""
    return list(iter_checks(agent, device=device, budget=budget, patience=patience))
