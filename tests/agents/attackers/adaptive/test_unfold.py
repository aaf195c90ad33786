from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

import arena
from agents.attackers.adaptive.eot import EOT
from agents.attackers.adaptive.unfold import Unfold, unfolded
from agents.attackers.score.random_search import RandomSearch
from agents.attackers.score.square import Square
from agents.defenders.aaa.linear import AAALinear
from agents.defenders.none import NoDefense
from arena.players import Attacker, Needs
from arena.rules.threat import Threat


def margins(logits):
    top = logits.topk(2, dim=-1).values
    return top[..., 0] - top[..., 1]


def with_margins(m, classes=10, seed=0):
    """Logits [n,K] with these margins [n] between class 3 and the next, the others a few below."""
    z = -3 - 3 * torch.rand(len(m), classes, generator=torch.Generator().manual_seed(seed))
    z[:, 3], z[:, 7] = m, 0.0
    return z


@pytest.mark.parametrize(
    ("shown", "true"),
    [
        (5.95, 0.05),
        (5.0, 1.0),
        (3.0, 3.0),
        (1.0, 5.0),
        (0.05, 5.95),
        (10.0, 8.0),
        (6.05, 11.95),
        (13.0, 17.0),
    ],
)
def test_the_inverse_of_aaas_targets(shown, true):
    """The vectors of eq. 5 at tau = 6, alpha = 1 read backwards."""
    z = unfolded(with_margins(torch.tensor([shown])), tau=6.0)
    assert margins(z).item() == pytest.approx(true, abs=1e-5)
    assert z[0].argmax() == 3


@pytest.mark.parametrize("alpha", [0.3, 0.7, 1.0])
@pytest.mark.parametrize("tau", [2.0, 6.0])
def test_it_undoes_any_target_of_the_defender(tau, alpha):
    m = torch.linspace(0.01, 20, 4001)
    shown = AAALinear(tau=tau, alpha=alpha).target(m)
    back = margins(unfolded(with_margins(shown), tau=tau, alpha=alpha))
    assert torch.allclose(back, m, atol=2e-5 / alpha)


def test_what_the_real_defender_shows_is_unfolded_to_within_its_own_precision():
    """From m0 = 1.5 on, apart from the calibrated floor below 6 and the rounding at multiples of tau."""
    m = torch.linspace(0.05, 24, 1600)
    shown, _ = AAALinear().defend(with_margins(m), 2.0)
    assert (margins(shown) - m).abs().median() > 2  # nothing is undone by itself
    back = margins(unfolded(shown, tau=6.0, unsure=0.6, slack=0.1))
    off = (back - m).abs()
    usual = ((m > 1.5) & (m < 4.9) | (m > 6)) & ((m % 6 > 0.2) & (m % 6 < 5.8))
    assert usual.float().mean() > 0.8
    assert off[usual].max() < 0.5
    assert off[usual].quantile(0.98) < 0.2 and off[usual].median() < 0.08
    floor = (m > 5.1) & (m < 5.9)
    assert (back[floor] > 4.9).all() and (back[floor] < 5.2).all()
    small = m < 1.5
    assert (back[small] < 1.7).float().mean() > 0.9
    without = margins(unfolded(shown, tau=6.0, slack=0.1))
    assert (without[small] > 3.4).float().mean() > 0.2


def test_a_low_confidence_is_given_as_the_margin():
    z = torch.tensor([[0.0, -1.0, -1.0, -1.0], [9.0, 8.9, -9.0, -9.0]])
    p = z.softmax(dim=1).amax(dim=1)
    assert margins(unfolded(z, 6.0, unsure=0.6)).tolist() == pytest.approx(p.tolist(), abs=1e-5)
    assert margins(unfolded(z, 6.0, unsure=0.5)).tolist() == pytest.approx([p[0].item(), 5.9], abs=1e-4)


def test_slack_reads_what_is_just_below_a_cell_as_the_cell_above():
    z = with_margins(torch.tensor([5.95, 6.0, 11.85]))
    assert margins(unfolded(z, 6.0, slack=0.1)).tolist() == pytest.approx([12.0, 12.0, 6.15], abs=1e-4)
    assert margins(unfolded(z, 6.0)).tolist() == pytest.approx([0.05, 0.0, 6.15], abs=1e-4)


def test_top_and_second_move_by_half_each_and_nobody_comes_between():
    z = torch.tensor([[9.0, 7.0, 6.5, -2.0], [3.0, 9.0, 4.0, -torch.inf]])  # margins 2 and 5: 4 and 1
    back = unfolded(z, tau=6.0)
    assert back.tolist() == [[10.0, 6.0, 6.0, -2.0], [3.0, 7.0, 6.0, -torch.inf]]


def test_rows_without_a_margin_stay():
    z = torch.tensor([[torch.nan, 1.0, 2.0], [0.0, -torch.inf, -torch.inf], [torch.inf, 1.0, 0.0]])
    assert torch.equal(unfolded(z, 6.0).nan_to_num(9), z.nan_to_num(9))
    assert torch.equal(unfolded(z[:, :1], 6.0).nan_to_num(9), z[:, :1].nan_to_num(9))


@dataclass(frozen=True)
class Hears(Attacker):
    """Asks for the clean images once and keeps the loss and the margin of the scores that it hears."""

    heard: list[Any] = field(default_factory=list)
    needs = Needs(feedback="scores")

    def play(self, games):
        answers = yield from games.ask(games.x0, None, "probe")
        self.heard.extend([games.loss(answers), answers, games])


def model(x, game, turn):
    return with_margins(torch.tensor([1.0, 4.0, 8.0])[game])


@pytest.fixture
def hear(referee, images):
    """hear(wrap, ...): losses told to an attacker within wrap(it) when margins 1, 4 and 8 are shown."""

    def run(wrap, defense=None, **rules):
        inner = Hears()
        x0, label = images(3, (1, 4, 4)), torch.full((3,), 3)
        table = referee(model, x0, label, Threat(epsilon=1.0, budget=9, objective="submit", **rules))
        table.seat.defense = defense
        table.play(wrap(inner))
        return inner.heard

    return run


def test_the_inner_attack_hears_the_margins_from_before_the_reflection(hear):
    loss, answers, _ = hear(lambda inner: Unfold(of=inner))
    assert loss.tolist() == pytest.approx([5.0, 2.0, 10.0])
    assert answers.label.tolist() == [3, 3, 3]
    loss, *_ = hear(lambda inner: Unfold(of=inner, alpha=0.5))
    assert loss.tolist() == pytest.approx([6.0, 1.0, 11.0])  # clamped to the cell, 3 + 1/2 (3 - 4), ...


def test_repeats_are_unfolded_one_by_one(hear):
    loss, answers, _ = hear(lambda inner: EOT(of=Unfold(of=inner), repeats=2))
    assert loss.tolist() == pytest.approx([5.0, 2.0, 10.0])
    assert margins(answers.repeats).tolist() == [pytest.approx([5.0, 2.0, 10.0])] * 2


def told(*defenders):
    return {"defenders": list(defenders)}


@pytest.mark.parametrize(
    ("defense", "losses"),
    [
        (told({"name": "aaa-linear", "tau": 4.0, "alpha": 1.0}), [3.0, 0.0, 4.0]),
        (
            told({"name": "rnd", "nu": 0.1}, {"name": "aaa-linear", "tau": 6.0, "alpha": 1.0}),
            [5.0, 2.0, 10.0],
        ),
        (told({"name": "aaa-sine", "tau": 6.0, "alpha": 0.7}), [1.0, 4.0, 8.0]),
        (told(), [1.0, 4.0, 8.0]),
    ],
)
def test_without_a_tau_it_reads_the_defense(hear, defense, losses):
    loss, *_ = hear(lambda inner: Unfold(of=inner, tau="told", slack=0.0), defense, knowledge="defense")
    assert loss.tolist() == pytest.approx(losses)


def test_what_it_needs():
    assert Unfold(of=Square()).needs == Square().needs
    assert Unfold(of=Square(), tau="told").needs.knowledge == "defense"
    assert Unfold(of=Square()).twin == Square()
    assert Unfold(of=EOT(of=Square(), repeats=3, convention="adaptive")).budget_factor == 3
    with pytest.raises(ValueError, match="tau must be finite and above 0; found 0"):
        Unfold(of=Square(), tau=0.0)
    with pytest.raises(ValueError, match="slack must be at least 0 and below tau; found 7"):
        Unfold(of=Square(), slack=7.0)


class Linear(torch.nn.Module):
    """Ten classes, the logits linear; class 3 leads class 7 by 10 on grey images."""

    def __init__(self):
        super().__init__()
        w = torch.randn(3 * 64, generator=torch.Generator().manual_seed(0))
        self.w = w / w.abs().sum() * 200

    def forward(self, x):
        m = 10 + (x - 0.5).flatten(1) @ self.w
        return with_margins(m)


@pytest.mark.parametrize("of", [Square(), RandomSearch(mu=0.1)], ids=["square", "random-search"])
def test_behind_the_real_defender_it_wins_as_its_twin_does_undefended(of):
    x0 = 0.4 + 0.2 * torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    classifier = Linear()
    with torch.no_grad():
        x0 = x0[classifier(x0).argmax(dim=1) == 3]
    label = torch.full((len(x0),), 3)
    threat = {"norm": "linf", "epsilon": 0.25, "budget": 80, "feedback": "logits", "objective": "first"}

    def won(attacker, defender):
        result = arena.play(
            attacker,
            defender,
            classifier=classifier,
            images=x0,
            labels=label,
            threat=threat,
            calibration=(x0, label),
        )
        return int(result.marks[80].answered.sum())

    undefended = won(of, NoDefense())
    assert undefended >= 0.8 * len(x0)
    defended = won(of, AAALinear(temperature=2.0))
    assert defended <= 0.3 * len(x0)
    assert won(Unfold(of=of), AAALinear(temperature=2.0)) >= 0.8 * undefended


def test_a_reflection_steeper_than_any_is_refused():
    with pytest.raises(ValueError, match="alpha must be at most 1; found 2"):
        Unfold(of=Square(), alpha=2.0)
