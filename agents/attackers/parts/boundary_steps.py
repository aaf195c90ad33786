"""The Boundary Attack's step sizes, changed by the authors', foolbox 3's or ART's rules, game by game."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from agents.attackers.parts.walks import Window
from arena.players import Games

SPHERICAL_WINDOW, SOURCE_WINDOW = 100, 30
TOO_RARE, TOO_OFTEN = 0.2, 0.5
"""Rates of success outside of which steps change."""
CONVERGED, STAYS_CONVERGED = 1e-7, 2e-7
CONFIRMATIONS = 100


class WalkParameters(Protocol):
    """The parameters of the Boundary Attack that change its steps (see `boundary`)."""

    @property
    def spherical_step(self) -> float: ...
    @property
    def source_step(self) -> float: ...
    @property
    def step_adaptation(self) -> float: ...
    @property
    def spherical_every(self) -> int: ...
    @property
    def candidates(self) -> int: ...


class FoolboxSteps:
    """The step sizes of G games by the rules of foolbox 3.

    A step is one candidate. In every tenth step the point on the sphere that it comes from is asked too,
    whatever the answer: both answers count, so candidates are expected to succeed half as often.

    Attributes:
        sigma, epsilon: [G] float64, relative to the distance.
        held: [G] bool: the point on the sphere has been asked, and its candidate comes next.
    """

    source_too_rare, source_too_often = 0.1, 0.25

    def __init__(self, attack: WalkParameters, games: Games) -> None:
        self.attack, device = attack, games.x0.device
        whole = torch.ones(len(games), dtype=torch.int64, device=device)
        self.sigma = attack.spherical_step * whole.double()
        self.epsilon = attack.source_step * whole.double()
        self.spherical = Window(len(games), SPHERICAL_WINDOW, device)
        self.source = Window(len(games), SOURCE_WINDOW, device)
        self.step, self.held = whole, torch.zeros_like(whole, dtype=torch.bool)

    def begin(self, i: Tensor) -> None:
        """Begin again in games `i` [n]."""
        self.sigma[i], self.epsilon[i] = self.attack.spherical_step, self.attack.source_step
        self.held[i] = False
        for window in (self.spherical, self.source):
            window.clear(i, torch.ones_like(i, dtype=torch.bool))

    def tests_sphere(self, i: Tensor) -> Tensor:
        """[n] bool: games `i` [n] ask the point on the sphere next."""
        return (self.step[i] % self.attack.spherical_every == 0) & ~self.held[i]

    def record(self, i: Tensor, spherical: Tensor, fooled: Tensor) -> Tensor:
        """Enter the answers `fooled` [n] to points on the sphere (where `spherical` [n]) or candidates.

        Returns the index (into `i`) of games that have converged for good.
        """
        self.push(i, spherical, fooled)
        self.held[i] = spherical
        self.adapt(i, ~spherical)
        self.step[i] += ~spherical
        return (~spherical & (self.epsilon[i] < CONVERGED)).nonzero().squeeze(1)

    def push(self, i: Tensor, spherical: Tensor, fooled: Tensor) -> None:
        self.spherical.push(i, fooled, spherical)
        self.source.push(i, fooled, self.held[i])

    def adapt(self, i: Tensor, ends: Tensor) -> None:
        """Change the steps of games `i` [n] whose step `ends` [n]; the outcomes that led to a change are
        cleared."""
        factor = self.attack.step_adaptation
        both = self.spherical.verdict(i, TOO_RARE, TOO_OFTEN) * ends
        source = self.source.verdict(i, self.source_too_rare, self.source_too_often) * ends
        self.sigma[i] *= factor ** both.double()
        self.epsilon[i] *= factor ** (both + source).double()
        self.spherical.clear(i, both != 0)
        self.source.clear(i, source != 0)


class OriginalSteps(FoolboxSteps):
    """The same by the rules of the authors' code (foolbox 2.4).

    A step has up to `candidates` candidates, until one is adversarial. If the sphere is tested, a candidate
    is asked only if the point that it comes from is adversarial. Steps that have converged start again from
    there, with a test of the sphere in each, and have converged for good if they do so again.
    """

    source_too_rare, source_too_often = TOO_RARE, TOO_OFTEN

    def __init__(self, attack: WalkParameters, games: Games) -> None:
        super().__init__(attack, games)
        self.tried = torch.zeros_like(self.step)
        self.renewed = torch.zeros_like(self.held)
        self.confirmations = torch.full_like(self.step, CONFIRMATIONS)

    def begin(self, i: Tensor) -> None:
        super().begin(i)
        self.tried[i], self.renewed[i], self.confirmations[i] = 0, False, CONFIRMATIONS

    def tests_sphere(self, i: Tensor) -> Tensor:
        return ((self.step[i] % self.attack.spherical_every == 0) | self.renewed[i]) & ~self.held[i]

    def record(self, i: Tensor, spherical: Tensor, fooled: Tensor) -> Tensor:
        self.push(i, spherical, fooled)
        self.held[i] = spherical & fooled
        tried = self.tried[i] + ~self.held[i]
        ends = (fooled & ~spherical) | (tried >= self.attack.candidates)
        self.tried[i] = torch.where(ends, 0, tried)
        self.step[i] += ends
        self.adapt(i, ends)
        return self.converge(i, ends)

    def converge(self, i: Tensor, ends: Tensor) -> Tensor:
        """Update, where a step `ends` [n], whether games `i` [n] have converged; the index of those for
        good."""
        renewed, left = self.renewed[i], self.confirmations[i]
        confirming = left < CONFIRMATIONS
        small = self.epsilon[i] < torch.where(confirming, STAYS_CONVERGED, CONVERGED)
        lapsed = ends & ~small & confirming
        anew = ends & small & ~renewed
        left = torch.where(lapsed, CONFIRMATIONS, left - (ends & small & renewed).long())
        self.sigma[i] = torch.where(anew, self.attack.spherical_step, self.sigma[i])
        self.epsilon[i] = torch.where(anew, self.attack.source_step, self.epsilon[i])
        self.renewed[i] = (renewed | anew) & ~lapsed
        self.confirmations[i] = left
        return (left <= 0).nonzero().squeeze(1)


class ArtSteps:
    """The step sizes of G games by the rules of ART: by the rate of success of each trial on its own.

    Attributes:
        sigma, epsilon: [G] float64, relative to the distance.
    """

    def __init__(self, attack: WalkParameters, games: Games) -> None:
        self.attack, self.factor = attack, attack.step_adaptation
        whole = torch.ones(len(games), dtype=torch.float64, device=games.x0.device)
        self.sigma, self.epsilon = attack.spherical_step * whole, attack.source_step * whole

    def begin(self, i: Tensor) -> None:
        """Begin again in games `i` [n]."""
        self.sigma[i], self.epsilon[i] = self.attack.spherical_step, self.attack.source_step

    def adapt(self, step: Tensor, i: Tensor, rate: Tensor) -> None:
        """Change `step` [G], which is `sigma` or `epsilon`, by the rates of success [n] of games `i` [n]."""
        verdict = (rate > TOO_OFTEN).double() - (rate < TOO_RARE).double()
        step[i] *= self.factor**verdict
