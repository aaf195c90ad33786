"""All agents that are registered pass the checks, each around stand-ins where it needs an agent inside."""

from __future__ import annotations

from typing import Any

import pytest

from arena.conformance import example, run_checks
from arena.conformance.attacker_trials import BUDGET
from arena.players.registry import Kind, Spec, names

pytestmark = pytest.mark.conformance
AGENTS: list[tuple[Kind, str]] = [(kind, name) for kind in ("attacker", "defender") for name in names(kind)]


def test_agents_are_registered() -> None:
    assert {("attacker", "square"), ("defender", "none")} <= set(AGENTS)


TINY_SURROGATES = {
    "depths": [0, 1],
    "width": 4,
    "first_batches": 3,
    "batches": 1,
    "batch": 8,
    "least_images": 1,
}
BRIEFER: dict[str, Spec] = {
    "carlini-wagner": {"name": "carlini-wagner", "iterations": 10, "search_steps": 2, "learning_rate": 0.1},
    "pgd": {"name": "pgd", "steps": 5, "restarts": 2},
    "bypass-fq": {"name": "bypass-fq", "max_directions": 1},
    "query-net": {"name": "query-net", **TINY_SURROGATES},
    "aaa-linear": {"name": "aaa-linear", "kappa": 10},
    "gwad": {"name": "gwad", "capacity": 6, "games": 1},
    "stateful-detection": {"name": "stateful-detection", "k": 3},
    "predcoin-image": {"name": "predcoin-image", "images": 20},
    "aaa-sine": {"name": "aaa-sine", "kappa": 10},
    "pgd-at": {"name": "pgd-at", "epochs": 1, "steps": 2},
    "trades": {"name": "trades", "epochs": 1, "steps": 2},
    "gaussian-augmentation": {"name": "gaussian-augmentation", "epochs": 1},
    "distillation": {"name": "distillation", "epochs": 1},
    "dent": {"name": "dent", "steps": 2},
    "rse": {"name": "rse", "epochs": 2, "passes": 2},
    "pni": {"name": "pni", "epochs": 2, "steps": 2},
    "trs": {"name": "trs", "epochs": 1, "members": 2},
    "region-based": {"name": "region-based", "m": 24},
}
"""Those that think long before they ask."""
VARIANTS: list[tuple[Kind, dict[str, Any]]] = [
    ("attacker", {"name": "eot", "of": {"name": "square"}, "repeats": 3, "convention": "adaptive"}),
    ("attacker", {"name": "square", "rescale": True, "clean_query": True, "refresh_every": 2}),
    ("attacker", {"name": "nes", "noise": "pixel", "ask_iterate": True}),
    ("attacker", {"name": "rgf", "estimate": "antithetic", "step": "raw"}),
    ("attacker", {"name": "rgf", "refresh_every": 3, "directions": 5}),
    ("attacker", {"name": "bandits", "tile": 5}),
    ("attacker", {"name": "zo-sign-sgd", "oracle": False, "init_draws": 10}),
    ("attacker", {"name": "simba", "basis": "pixel", "refresh_every": 3}),
    ("attacker", {"name": "simba", "order": "strided", "frequencies": 2, "stride": 2, "loss": "margin"}),
    ("attacker", {"name": "parsimonious", "block": 4, "batch": 3, "refresh_every": 2}),
    ("attacker", {"name": "slope-square", "patience": 1, "trials": 2, "refresh_every": 3}),
    ("attacker", {"name": "unfold", "of": {"name": "square"}, "tau": "told"}),
    ("attacker", {"name": "boundary", "rules": "original"}),
    ("attacker", {"name": "label-scout", "halvings": 2, "repeats": 1}),  # whose scouting ends within `SHORT`
    ("attacker", {"name": "hop-skip-jump", "delta_rule": "art", "step_search": "grid", "fallback": True}),
    ("attacker", {"name": "account-rotation", "of": {"name": "square"}, "policy": "refused"}),
    ("attacker", {"name": "account-rotation", "of": {"name": "hop-skip-jump"}, "every": 3}),
    ("attacker", {"name": "query-blinding", "of": {"name": "hop-skip-jump"}, "shift": 0.0}),
    ("attacker", {"name": "oars-square", "adapt_steps": 1, "squares_probes": 1, "side_probes": 1}),
    ("attacker", {"name": "oars-nes", "adapt_steps": 1, "adapt_probes": 1, "pairs": 2}),
    ("attacker", {"name": "oars-hop-skip-jump", "adapt_steps": 1, "adapt_probes": 1, "initial_probes": 3}),
    ("attacker", {"name": "oars-surfree", "adapt_steps": 2, "adapt_probes": 1, "n_ortho": 3}),
    ("attacker", {"name": "prior-rgf", "directions": 3, "length_probes": 2, "every": 3, "loss": "margin"}),
    ("defender", {"name": "snd", "beta": 0.5, "clamp": True}),
    ("defender", {"name": "blacklight", "history": "account", "action": "cached"}),
    ("defender", {"name": "blacklight", "action": "ban", "capacity": 5, "salted": False}),
    (
        "defender",
        {"name": "stateful-detection", "k": 3, "embedding": "encoder", "epochs": 1, "action": "cached"},
    ),
    ("defender", {"name": "piha", "history": "account", "action": "silent"}),
    ("defender", {"name": "pgd-at", "epochs": 1, "norm": "l2", "init": "weights", "random_start": False}),
    ("defender", {"name": "randomized-features", "sigma": 0.3, "scaled": True, "before": ["same", "norm"]}),
    ("defender", {"name": "pni", "epochs": 1, "steps": 1, "share": "layer", "init": "weights"}),
    ("defender", {"name": "trs", "epochs": 1, "members": 2, "epsilon": 0.0, "init": "weights"}),
    ("defender", {"name": "aaa-exact", "form": "sine"}),
    ("defender", {"name": "feature-squeezing", "action": "refuse", "median": False, "share": 0.3}),
    ("defender", {"name": "unknown", "share": 0.4}),
    ("defender", {"name": "boundary-defense", "theta": 0.9, "sigma": 1.0}),
    ("defender", {"name": "temperature-scaling", "criterion": "ece"}),
    ("defender", {"name": "confidence-gated", "of": {"name": "resize-pad"}, "tau": 0.99}),
    ("defender", {"name": "confidence-gated", "of": {"name": "feature-squeezing"}}),
]


DAILY = {
    *("square", "random-search", "eot", "hop-skip-jump", "sign-opt", "vote", "pgd"),
    *("none", "snd", "rnd", "aaa-sine", "disagreement"),
}
"""One or two of each kind, which `make test` plays; `make test-all` plays all."""
SHORT = 12
"""Queries a game of the longest plays of these; other attackers are checked as `arena check` does it."""
SEARCHING = {"bypass-fq": 36, "bypass-fq-sign-flip": 36}
"""The same of those that think for a second before each query."""


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(*agent, id="-".join(agent), marks=[] if agent[1] in DAILY else [pytest.mark.slow])
        for agent in AGENTS
        if agent[0] == "defender" or agent[1] in DAILY
    ],
)
def test_a_registered_agent_passes_all_checks(kind: Kind, name: str) -> None:
    assert shortcomings(kind, BRIEFER.get(name, name), SHORT) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", names("attacker"))
def test_an_attacker_passes_them_as_arena_check_plays_them(name: str) -> None:
    assert shortcomings("attacker", BRIEFER.get(name, name), SEARCHING.get(name, BUDGET)) == {}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "spec"), VARIANTS, ids=[str(spec["name"]) for _, spec in VARIANTS])
def test_so_does_one_with_other_parameters(kind: Kind, spec: dict[str, Any]) -> None:
    assert shortcomings(kind, spec, SHORT) == {}


def shortcomings(kind: Kind, spec: Spec, budget: int) -> dict[str, str]:
    results = run_checks(example(kind, spec), budget=budget)
    return {r.name: r.sentence for r in results if r.verdict != "passed"}
