"""The label scout beside a plane: what it believes, what it plays, and what that costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from agents.attackers.adaptive.label_scout import LABEL_PLAYS, SCOUT, LabelBelief, LabelScout, suited
from agents.attackers.decision.cgba import CGBA
from agents.attackers.decision.rays import RayS
from agents.attackers.decision.surfree import SurFree
from arena.players import Needs
from arena.rules.threat import Threat

NORMAL = torch.randn(1 << 16, generator=torch.Generator().manual_seed(0))
BAND = 0.2

Shown = Callable[[Tensor, Tensor, Tensor], Tensor]


def draw(game: Tensor, turn: Tensor) -> Tensor:
    return NORMAL[(game * 1009 + turn) % len(NORMAL)]


def plain(h: Tensor, game: Tensor, turn: Tensor) -> Tensor:
    return h


def noisy(h: Tensor, game: Tensor, turn: Tensor) -> Tensor:
    """Input noise moves the height above the plane by a normal."""
    return h + 0.05 * draw(game, turn)


def coin(h: Tensor, game: Tensor, turn: Tensor) -> Tensor:
    return torch.where((h.abs() < BAND) & (draw(game, turn) > 0), -h, h)


def parity(h: Tensor, game: Tensor, turn: Tensor) -> Tensor:
    return torch.where((h.abs() < BAND) & ((h.double() / 1e-8).floor() % 2 == 0), -h, h)


@pytest.fixture
def table(referee: Any, plane: Any) -> Callable[..., Any]:
    """table(shown, games, ...): class 1 above a plane, some 0.4 from the images."""

    def make(shown: Shown = plain, games: int = 8, budget: int = 200, **more: Any) -> Any:
        world = plane(games)

        def model(x: Tensor, game: Tensor, turn: Tensor) -> Tensor:
            # The far corner is noise of its own: every image of uniform noise is class 1.
            far = (x - world.x0[game]).flatten(1).norm(dim=1)
            h = shown((far - 0.7).float(), game, turn)
            return torch.stack([-h, h], dim=1)

        rules = {"norm": "l2", "epsilon": 0.1, "budget": budget, "feedback": "label", "objective": "submit"}
        return referee(model, world.x0, world.label, Threat(**rules | more.pop("rules", {})), **more)

    return make


CASES: list[tuple[Shown, LabelBelief]] = [
    (plain, "plain"),
    (noisy, "noise"),
    (coin, "coin"),
    (parity, "parity"),
]


@pytest.mark.parametrize(("shown", "belief"), CASES, ids=[belief for _, belief in CASES])
def test_what_it_believes(table: Any, procedure: Any, shown: Shown, belief: LabelBelief) -> None:
    steps = procedure(lambda games: LabelScout().scout(games))
    table(shown, games=20).play(steps)
    assert steps.result == belief


@pytest.mark.parametrize(
    ("shown", "beliefs"), [(plain, {"plain"}), (noisy, {"noise", "coin"}), (parity, {"parity"})]
)
def test_what_it_believes_from_one_game(table: Any, procedure: Any, shown: Shown, beliefs: Any) -> None:
    """Which cannot tell noise from a coin."""
    steps = procedure(lambda games: LabelScout().scout(games))
    table(shown, games=1).play(steps)
    assert steps.result in beliefs


def test_refused_repeats(table: Any, procedure: Any) -> None:
    steps = procedure(lambda games: LabelScout().scout(games))
    table(refuse=lambda game, turn: turn > 12).play(steps)
    assert steps.result == "refusals"


def test_what_scouting_costs(table: Any) -> None:
    scout = LabelScout()
    played = table()
    played.play(scout)
    for game in range(8):
        assert played.purposes(game)[: scout.queries] == [SCOUT] * scout.queries
        assert SCOUT not in played.purposes(game)[scout.queries :]
        assert len(played.asked[game]) == 200
    assert scout.queries <= 0.1 * 500


@pytest.mark.parametrize("budget", [1, 5, 20, 49, 50])
def test_no_more_than_the_budget(table: Any, budget: int) -> None:
    played = table(budget=budget)
    played.play(LabelScout())
    assert [len(asked) for asked in played.asked] == [budget] * 8


def test_it_leaves_its_belief_in_the_log_of_each_game(table: Any) -> None:
    played = table()
    played.play(LabelScout())
    for key in ("believes", "plays"):
        assert [game for word, game, _ in played.notes if word == key] == list(range(8))


def test_where_no_start_wins_the_other_begins_at_once(table: Any) -> None:
    played = table(lambda h, game, turn: -h.abs())
    played.play(LabelScout())
    assert all(played.purposes(game).count(SCOUT) == 1 for game in range(8))


def test_the_table_has_an_attacker_for_each_belief_and_threat() -> None:
    assert set(LABEL_PLAYS) == set(get_args(LabelBelief))
    needs: Needs = LabelScout().needs
    for belief in LABEL_PLAYS:
        for norm in needs.norms:
            for goal in needs.goals:
                for objective in needs.objectives:
                    starts = {"starts": goal == "targeted"}
                    threat = Threat(
                        norm=norm,
                        goal=goal,
                        objective=objective,
                        epsilon=0.1,
                        budget=100,
                        feedback="label",
                        resources=starts,
                    )
                    for values in (64, 3072):
                        assert suited(belief, threat, values).needs.unmet(threat) is None
    l2, linf = (Threat(norm=norm, epsilon=0.1, budget=100, feedback="label") for norm in ("l2", "linf"))
    assert suited("plain", l2, 3072) == CGBA() == LabelScout().twin
    assert suited("plain", l2, 64) == SurFree() == suited("noise", l2, 3072)
    assert suited("plain", linf, 64) == RayS()


@pytest.mark.parametrize("name", ["halvings", "repeats"])
def test_what_makes_no_sense(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        LabelScout(**{name: 0})
