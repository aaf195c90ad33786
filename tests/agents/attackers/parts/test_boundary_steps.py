from collections import deque

import pytest
import torch

from agents.attackers.decision.boundary import Boundary
from agents.attackers.parts.boundary_steps import ArtSteps, FoolboxSteps, OriginalSteps
from arena.rules.threat import Threat


@pytest.fixture
def seat(referee, linear):
    """seat(games)"""

    def make(games):
        x0 = torch.full((games, 1, 2, 2), 0.5)
        threat = Threat(norm="l2", epsilon="inf", budget=9, feedback="label", objective="minimum")
        return referee(linear((1, 2, 2)), x0, torch.zeros(games, dtype=torch.int64), threat).seat

    return make


class Original:
    """The step sizes of one game by the rules of foolbox 2.4, in plain Python."""

    def __init__(self, rules):
        self.rules, self.sigma, self.epsilon = rules, rules.spherical_step, rules.source_step
        self.spherical, self.source = deque(maxlen=100), deque(maxlen=30)
        self.step, self.resetted, self.remaining = 1, False, 100

    def plays(self):
        """Yields whether the sphere is asked next, receives the answer; returns when it has converged."""
        while True:
            converged = self.epsilon < (1e-7 if self.remaining == 100 else 2e-7)
            if converged and self.resetted:
                self.remaining -= 1
                if self.remaining == 0:
                    return
            elif converged:
                self.resetted = True
                self.sigma, self.epsilon = self.rules.spherical_step, self.rules.source_step
            elif self.remaining < 100:
                self.remaining, self.resetted = 100, False
            tests = self.step % self.rules.spherical_every == 0 or self.resetted
            for _ in range(self.rules.candidates):
                if tests:
                    adversarial = yield True
                    self.spherical.append(adversarial)
                    if not adversarial:
                        continue
                adversarial = yield False
                if tests:
                    self.source.append(adversarial)
                if adversarial:
                    break
            self.adapt()
            self.step += 1

    def adapt(self, low=0.2, high=0.5):
        full = len(self.spherical) == 100, len(self.source) == 30
        rates = sum(self.spherical) / 100, sum(self.source) / 30
        factor = self.rules.step_adaptation
        if full[0] and not 0.2 <= rates[0] <= 0.5:
            up = rates[0] > 0.5
            self.sigma = self.sigma * factor if up else self.sigma / factor
            self.epsilon = self.epsilon * factor if up else self.epsilon / factor
            self.spherical.clear()
        if full[1] and not low <= rates[1] <= high:
            self.epsilon = self.epsilon * factor if rates[1] > high else self.epsilon / factor
            self.source.clear()


class Foolbox(Original):
    """The same by the rules of foolbox 3."""

    def plays(self):
        while self.epsilon >= 1e-7:
            tests = self.step % self.rules.spherical_every == 0
            if tests:
                self.spherical.append((yield True))
            adversarial = yield False
            if tests:
                self.source.append(adversarial)
                self.adapt(0.1, 0.25)
            self.step += 1


@pytest.mark.parametrize(
    ("kind", "reference"), [(OriginalSteps, Original), (FoolboxSteps, Foolbox)], ids=["original", "foolbox"]
)
@pytest.mark.parametrize(
    "rules",
    [
        Boundary(spherical_every=3, candidates=3),
        Boundary(spherical_every=2, candidates=2, step_adaptation=1e3),
    ],
    ids=["often", "coarse"],
)
def test_steps_change_as_in_the_published_code(seat, rules, kind, reference):
    chances = [(0.9, 0.9), (0.1, 0.05), (0.4, 0.35), (0.95, 0.0), (0.3, 0.1)]  # on the sphere, inwards
    games = [reference(rules) for _ in chances]
    plays = [game.plays() for game in games]
    asks = [next(play) for play in plays]
    steps, i = kind(rules, seat(len(games) + 1)), torch.arange(1, len(games) + 1)
    luck = torch.Generator().manual_seed(0)
    resets = 0
    for _ in range(1000):
        spherical = steps.tests_sphere(i)
        assert spherical.tolist() == asks
        chance = torch.tensor([chances[k - 1][not a] for k, a in zip(i.tolist(), asks, strict=True)])
        fooled = torch.rand(len(i), generator=luck) < chance
        done = steps.record(i, spherical, fooled).tolist()
        asks, over = [], []
        for k, play in enumerate(plays):
            try:
                asks.append(play.send(bool(fooled[k])))
            except StopIteration:
                over.append(k)
        assert done == over
        stay = [k for k in range(len(plays)) if k not in over]
        plays, games, i = [plays[k] for k in stay], [games[k] for k in stay], i[stay]
        resets += sum(game.resetted for game in games)
        for name in ("sigma", "epsilon"):
            expected = torch.tensor([getattr(game, name) for game in games], dtype=torch.float64)
            assert torch.allclose(getattr(steps, name)[i], expected, rtol=1e-9, atol=0)
    if rules.step_adaptation == 1e3:
        assert (resets or kind is FoolboxSteps) and len(games) < len(chances)  # some came to their end
    assert steps.sigma[0] == rules.spherical_step


def test_arts_steps_follow_the_rate_of_each_volley(seat):
    steps, i = ArtSteps(Boundary(spherical_step=0.03, source_step=0.2), seat(7)), torch.arange(1, 7)
    steps.adapt(steps.sigma, i, torch.tensor([0.0, 0.15, 0.2, 0.5, 0.55, 1.0]))
    steps.adapt(steps.epsilon, i[:1], torch.tensor([1.0]))
    expected = torch.tensor([0.03, 0.02, 0.02, 0.03, 0.03, 0.045, 0.045], dtype=torch.float64)
    assert torch.allclose(steps.sigma, expected, rtol=1e-12, atol=0)
    assert torch.allclose(steps.epsilon, torch.tensor([0.2, 0.3] + [0.2] * 5, dtype=torch.float64))
