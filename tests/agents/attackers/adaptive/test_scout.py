"""The scout against planted defenses: what it believes, what it plays, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

import arena
from agents.attackers.adaptive.scout import PLAYS, QUERIES, SCOUT, Belief, Found, Scout, suited
from agents.attackers.adaptive.slope_square import SlopeSquare
from agents.attackers.adaptive.unfold import Unfold
from agents.attackers.decision.rays import RayS
from agents.attackers.score.square import Square
from arena.classifiers import ClassifierSpec, load_classifier
from arena.datasets import load_dataset
from arena.rules.threat import Threat

SHAPE = (1, 8, 8)
TAU = 6.0
NORMAL = torch.randn(1 << 16, generator=torch.Generator().manual_seed(0))

Fold = Callable[[Tensor, Tensor, Tensor], Tensor]


def noise(game: Tensor, turn: Tensor) -> Tensor:
    """Standard normal, by game and turn alone."""
    return NORMAL[(game * 1009 + turn) % len(NORMAL)]


def noisy(sd: float) -> Fold:
    return lambda m, game, turn: m + sd * noise(game, turn)


def linear(m: Tensor, *_: Tensor) -> Tensor:
    """AAA-linear's margins (eq. 4, alpha = 1)."""
    size = m.abs()
    return m.sign() * (size - 2 * (size.remainder(TAU) - TAU / 2))


def sine(m: Tensor, *_: Tensor) -> Tensor:
    """AAA-sine's (alpha = .7)."""
    size = m.abs()
    return m.sign() * (size - 0.7 * TAU * (2 * math.pi * (size.remainder(TAU) - TAU / 2) / TAU).sin())


def coin(m: Tensor, game: Tensor, turn: Tensor) -> Tensor:
    """Below 8 the two classes are exchanged as often as not."""
    return torch.where((m.abs() < 8) & (noise(game, turn) > 0), -m, m)


def parity(m: Tensor, *_: Tensor) -> Tensor:
    """The same, by the last bits of the answer."""
    return torch.where((m.abs() < 8) & ((m.double() * 2**20).floor() % 2 == 0), -m, m)


@pytest.fixture
def table(referee: Any, images: Any) -> Callable[..., Any]:
    """table(fold, games, ...): true margins that fall by squares of the distance from x0, from 9 to 19 on."""

    def make(fold: Fold, games: int = 8, budget: int = 100, **more: Any) -> Any:
        x0 = images(games, SHAPE, 0.3, 0.7)
        first = 9 + 10 * torch.rand(games, generator=torch.Generator().manual_seed(2))

        def model(x: Tensor, game: Tensor, turn: Tensor) -> Tensor:
            far = (x - x0[game]).flatten(1).square().sum(dim=1)
            shown = fold(first[game] - 1.5 * far, game, turn)
            return torch.stack([shown / 2, -shown / 2, torch.full_like(shown, -30)], dim=1)

        rules: dict[str, Any] = {"epsilon": 0.15, "budget": budget, "objective": "submit"}
        rules |= more.pop("rules", {})
        return referee(model, x0, torch.zeros(games, dtype=torch.int64), Threat(**rules), **more)

    return make


def believed(procedure: Any, table: Any) -> Belief:
    steps = procedure(lambda games: Scout().scout(games))
    table.play(steps)
    return steps.result.belief  # type: ignore[no-any-return]


CASES: list[tuple[Fold, Belief]] = [
    (lambda m, *_: m, "plain"),
    (noisy(0.01), "little-noise"),
    (noisy(2.0), "noise"),
    (linear, "jumps"),
    (sine, "waves"),
    (lambda m, game, turn: linear(m) + 0.02 * noise(game, turn), "jumps"),
    (coin, "coin"),
    (parity, "parity"),
]
NAMES = ["plain", "little noise", "noise", "linear", "sine", "noisy linear", "coin", "parity"]


@pytest.mark.parametrize("games", [1, 8])
@pytest.mark.parametrize(("fold", "belief"), CASES, ids=NAMES)
def test_what_it_believes(table: Any, procedure: Any, fold: Fold, belief: Belief, games: int) -> None:
    if games == 1 and belief == "coin":
        pytest.skip("one coin may fall so that it is not seen")
    assert believed(procedure, table(fold, games)) == belief


def test_trust_in_answers_hides_nothing(table: Any, procedure: Any) -> None:
    assert believed(procedure, table(noisy(2.0), facts=True)) == "noise"
    assert believed(procedure, table(lambda m, *_: m, facts=False)) == "plain"


def test_refused_repeats(table: Any, procedure: Any) -> None:
    again = table(lambda m, *_: m, refuse=lambda game, turn: turn >= 8)
    assert believed(procedure, again) == "refusals"
    assert believed(procedure, table(lambda m, *_: m, refuse=lambda game, turn: True)) == "plain"


def test_what_scouting_costs(table: Any) -> None:
    for fold in (lambda m, *_: m, linear, noisy(2.0)):
        played = table(fold, rules={"epsilon": 0.01})  # where no query of the scout's wins
        played.play(Scout())
        for game in range(8):
            assert len(played.asked[game]) == 100
            assert played.purposes(game)[:QUERIES] == [SCOUT] * QUERIES
            assert SCOUT not in played.purposes(game)[QUERIES:]
    assert QUERIES <= 0.1 * 100


@pytest.mark.parametrize("budget", [1, 3, QUERIES - 1, QUERIES, QUERIES + 1])
def test_no_more_than_the_budget(table: Any, budget: int) -> None:
    played = table(lambda m, *_: m, budget=budget, rules={"epsilon": 0.01})
    played.play(Scout())
    assert [len(asked) for asked in played.asked] == [budget] * 8


def test_it_leaves_its_belief_in_the_log_of_each_game(table: Any) -> None:
    played = table(linear)
    played.play(Scout())
    for key in ("believes", "plays", "period"):
        said = [(game, at) for word, game, at in played.notes if word == key]
        assert [game for game, _ in said] == list(range(8))
        assert all(at == QUERIES for _, at in said)


def test_after_scouting_it_plays_as_the_other_alone(table: Any) -> None:
    """With a seat of its own, and so other draws: its steps are Square's."""
    played = table(lambda m, *_: m, rules={"epsilon": 0.01})
    played.play(Scout())
    assert played.purposes(0)[QUERIES:] == ["start", *["search"] * (99 - QUERIES)]


def test_a_hit_of_its_own_is_handed_in(table: Any) -> None:
    played = table(lambda m, *_: m, rules={"epsilon": 0.5})
    played.play(Scout())
    assert len(played.submitted) == 8
    assert all(purpose == SCOUT for game in range(8) for purpose in played.purposes(game))


def test_the_table_has_an_attacker_for_each_belief_and_threat() -> None:
    assert set(PLAYS) == set(get_args(Belief))
    for belief in PLAYS:
        for norm in ("linf", "l2"):
            for goal in ("untargeted", "targeted"):
                threat = Threat(norm=norm, goal=goal, epsilon=0.1, budget=100)
                for values in (64, 3072):
                    assert suited(Found(belief), threat, values).needs.unmet(threat) is None
    threat = Threat(norm="linf", epsilon=0.1, budget=100)
    assert suited(Found("waves"), threat, 64) == suited(Found("noise"), threat, 64) == RayS()
    assert suited(Found("waves"), threat, 3072) == SlopeSquare()
    assert Scout().twin == Square() == suited(Found("plain"), threat, 64)


def test_it_plays_on_with_the_period_that_it_found(table: Any, procedure: Any) -> None:
    steps = procedure(lambda games: Scout().scout(games))
    played = table(linear)
    played.play(steps)
    assert steps.result.period == pytest.approx(TAU, rel=0.03)
    attacker = suited(steps.result, played.threat, 64)
    assert attacker == Unfold(of=Square(), tau=steps.result.period)


def test_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="noisy must be positive; found 0"):
        Scout(noisy=0)


@pytest.mark.parametrize(
    ("defender", "told", "belief"),
    [
        ("none", Square(), "plain"),
        ("aaa-linear", Unfold(of=Square()), "jumps"),
        ("aaa-sine", RayS(), "waves"),
    ],
)
def test_it_keeps_most_of_what_one_that_is_told_wins(
    defender: str, told: Any, belief: Belief, tmp_path: Any
) -> None:
    """At least 80 % of the told attacker's success, on 30 digits at 100 queries."""
    data = load_dataset("digits")
    game: dict[str, Any] = {
        "classifier": load_classifier(ClassifierSpec(network="digits-cnn"), data).module,
        "images": data.games.take(slice(0, 30)),
        "labels": data.games.labels[:30],
        "calibration": (data.calibration.take(slice(0, 100)), data.calibration.labels[:100]),
        "threat": {"norm": "linf", "epsilon": 0.2, "budget": 100, "objective": "submit"},
    }
    scouts, plain = arena.play(Scout(), defender, **game), arena.play(told, defender, **game)
    assert scouts.success()[0] >= 0.8 * plain.success()[0] > 0
