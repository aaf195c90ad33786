"""Boundary Attack: a random walk along the boundary towards x0, by one of three sets of rules."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from agents.attackers.parts.boundary_steps import ArtSteps, FoolboxSteps, OriginalSteps
from agents.attackers.parts.claims import Standing, in_doubt, stand_by
from agents.attackers.parts.searches import Searching, blend, blend_search
from agents.attackers.parts.starts import find_start
from agents.attackers.parts.walks import BoxProposals, SphereProposals, nearest_of_each
from agents.parameters import check_parameters
from arena.players import Answers, Attacker, Games, Move, Needs, Play
from arena.rules.purposes import CANDIDATE, SEARCH

WIDTH = 1e-3
"""The share of the way to which bisection locates the boundary."""
LEVELS = {"original": 1000, "foolbox": 50, "art": 1000}
"""The number of blends of the linear scan."""


@dataclass(frozen=True)
class Boundary(Attacker):
    """Boundary Attack (Brendel, Rauber and Bethge, ICLR 2018), untargeted and targeted.

    A step goes along the sphere around x0 to a random point, then inwards; an image there that is adversarial
    and nearer is the walk's next point. How many are tried, and how the answers change the step sizes,
    differs:

    - `original`: the authors' code (foolbox 2.4), one candidate after the other. In every tenth step the
      point on the sphere is asked first, and the candidate only if it is adversarial; two rates of success,
      over 100 and 30 answers, change the steps. When the inward step has fallen below 1e-7 the walk restarts
      from there with the first step sizes; if it gets there again and stays for 100 steps, the game is
      resigned. Used in Sign-OPT's Table 1.
    - `foolbox`: foolbox 3. The same, but in every tenth step both are asked, each rate is over all answers,
      and below 1e-7 the game is resigned at once.
    - `art`: the Adversarial Robustness Toolbox. A volley of `samples` points on the sphere, then inward steps
      from all that are adversarial; the walk moves to the nearest that is still adversarial. The rate of
      success of each volley changes its step size, and a volley without success is repeated with it. The
      walk starts at the noise itself, far from the boundary. After 25 volleys in a row without success, when
      steps are 25,000 times smaller, the game is resigned with its nearest point. Used in SND's tables.

    Attributes:
        rules: one of these three.
        spherical_step: sigma (the paper's delta), the first step along the sphere, relative to the distance.
        source_step: epsilon, the first step inwards, relative to the distance.
        step_adaptation: the factor by which step sizes grow and shrink (ART's .667 divides by 1.499).
        candidates: `original`: the most candidates in a step.
        spherical_every: `original`, `foolbox`: the sphere is tested once in so many steps.
        samples: `art`: points on the sphere in a volley.
        trials: `art`: the most volleys on the sphere, and the most inwards.
        init_draws: how often noise is drawn to start from (ART's limit is 100).
        init_search: the search from the start to the boundary: `bisection` to .001 of the way (10 queries);
            `linear`: blends from x0 on until one is adversarial, 1000 as in the authors' code, 50 under
            `foolbox`; `none`. Default: `none` under `art`, else `bisection`.
        linf_walk: under an l_inf threat, which the paper does not treat (our reading): `l2`: the same walk,
            which claims its point nearest in l_inf; `box`: random signs within the box of radius r, which
            shrinks.
        fallback: if no noise is adversarial, start from an image granted (`find_start`).
    """

    rules: Literal["original", "foolbox", "art"] = "art"
    spherical_step: float = 0.01
    source_step: float = 0.01
    step_adaptation: float = 1.5
    candidates: int = 25
    spherical_every: int = 10
    samples: int = 20
    trials: int = 25
    init_draws: int = 1000
    init_search: Literal["bisection", "linear", "none"] | None = None
    linf_walk: Literal["l2", "box"] = "l2"
    fallback: bool = False

    def __post_init__(self) -> None:
        counts = ("candidates", "spherical_every", "samples", "trials", "init_draws")
        check_parameters(self, positive=("spherical_step", "source_step"), counts=counts)
        if not 1 < self.step_adaptation < math.inf:
            raise ValueError(f"step_adaptation must be finite and above 1; found {self.step_adaptation}")

    @property
    def needs(self) -> Needs:
        return Needs(starts="targeted")

    def play(self, games: Games) -> Play:
        x = yield from find_start(games, self.init_draws, fallback=self.fallback)
        i = games.open
        x[i] = yield from self.search(games, x[i], i)
        yield from (VolleyWalk if self.rules == "art" else CandidateWalk)(self, games, x).play()

    def search(self, games: Games, x: Tensor, i: Tensor) -> Searching:
        """From adversarial `x` [n,C,H,W] of games `i` [n] to the first point of the walk, [n,C,H,W]."""
        kind = self.init_search or ("none" if self.rules == "art" else "bisection")
        if kind == "bisection":
            x = yield from blend_search(games, x, i, WIDTH)
        elif kind == "linear":
            x = yield from linear_scan(games, x, i, LEVELS[self.rules])
        return x


class BoundaryWalk:
    """The walks of G games, and the points they claim.

    Attributes:
        x: [G,C,H,W], adversarial; changed in place.
        nearest: [G] float64, the distance of the nearest point stood by, in the threat's norm.
    """

    def __init__(self, attack: Boundary, games: Games, x: Tensor) -> None:
        self.attack, self.games, self.x = attack, games, x
        boxed = games.threat.norm == "linf" and attack.linf_walk == "box"
        self.proposals = BoxProposals() if boxed else SphereProposals()
        self.nearest = torch.full((len(games),), torch.inf, dtype=torch.float64, device=x.device)

    def stand(self, i: Tensor) -> Play:
        """Stand by the points of those of games `i` [n] that are nearer than all before.

        Where answers are no facts all are weighed: the nearest before may have been luck.
        """
        far = self.games.distance(self.x[i], i).double()
        nearer = i[(far < self.nearest[i]) | in_doubt(self.games)]
        self.nearest[i] = torch.minimum(self.nearest[i], far)
        yield from stand_by(self.games, self.x[nearer], nearer)

    def rest(self, i: Tensor, steps: ArtSteps | FoolboxSteps) -> Play:
        """End games `i` [n], whose `steps` have become minute; begin them again if answers are no facts."""
        if in_doubt(self.games):
            self.x[i] = Standing.at(self.games).start_again(self.x[i], i)
            steps.begin(i)
        else:
            yield from self.games.resign(i)


class CandidateWalk(BoundaryWalk):
    """One candidate at a time, as in foolbox."""

    def __init__(self, attack: Boundary, games: Games, x: Tensor) -> None:
        super().__init__(attack, games, x)
        self.steps = (OriginalSteps if attack.rules == "original" else FoolboxSteps)(attack, games)

    def play(self) -> Play:
        games, proposals, steps, x = self.games, self.proposals, self.steps, self.x
        distance = proposals.distance(x - games.x0)
        z = x.clone()
        yield from self.stand(games.open)
        while len(i := games.open):
            x0, delta = games.x0[i], x[i] - games.x0[i]
            eta = proposals.noise(games, x0.shape[1:], i)
            proposed = proposals.across(x0, delta, distance[i], steps.sigma[i], eta)
            z[i] = torch.where(steps.held[i].view(-1, 1, 1, 1), z[i], proposed)
            testing = steps.tests_sphere(i)
            candidate = proposals.inwards(x0, z[i], distance[i], steps.epsilon[i])
            image = torch.where(testing.view(-1, 1, 1, 1), z[i], candidate)
            fooled = yield from games.fools(image, i, CANDIDATE)
            converged = steps.record(i, testing, fooled)
            far = proposals.distance(image - x0)
            rows = (fooled & ~testing & (far < distance[i])).nonzero().squeeze(1)
            x[i[rows]], distance[i[rows]] = image[rows], far[rows]
            yield from self.stand(i[rows])
            yield from self.rest(i[converged], steps)
            distance[i[converged]] = proposals.distance(x[i[converged]] - games.x0[i[converged]])


class VolleyWalk(BoundaryWalk):
    """Volleys of points on the sphere, then of all that were adversarial, inwards, as in ART."""

    def __init__(self, attack: Boundary, games: Games, x: Tensor) -> None:
        super().__init__(attack, games, x)
        self.steps = ArtSteps(attack, games)

    def play(self) -> Play:
        games = self.games
        yield from self.stand(games.open)
        while len(games.open):
            for i in torch.split(games.open, max(1, games.max_rows // self.attack.samples)):
                z, hits = yield from self.across(i)
                barren = yield from self.inwards(i, z[hits], hits.nonzero()[:, 0])
                yield from self.rest(barren, self.steps)

    def across(self, i: Tensor) -> Generator[Move, Answers, tuple[Tensor, Tensor]]:
        """Volleys on the spheres of games `i` [n] until one has hits: its points [n,s,C,H,W], hits [n,s]."""
        games, steps, shape = self.games, self.steps, (self.attack.samples, *self.x.shape[1:])
        z = self.x.new_zeros(len(i), *shape)
        hits = torch.zeros(len(i), shape[0], dtype=torch.bool, device=i.device)
        for _ in range(self.attack.trials):
            rows = (~hits.any(dim=1) & games.state.open[i]).nonzero().squeeze(1)
            if not len(rows):
                break
            of = i[rows].repeat_interleave(shape[0])
            x0, delta = games.x0[of], self.x[of] - games.x0[of]
            eta = self.proposals.noise(games, shape, i[rows]).flatten(0, 1)
            far = self.proposals.distance(delta)
            proposed = self.proposals.across(x0, delta, far, steps.sigma[of], eta)
            fooled = yield from games.fools(proposed, of, CANDIDATE)
            z[rows], hits[rows] = proposed.view(-1, *shape), fooled.view(-1, shape[0])
            steps.adapt(steps.sigma, i[rows], hits[rows].sum(dim=1) / shape[0])
        return z, hits

    def inwards(self, i: Tensor, z: Tensor, row: Tensor) -> Searching:
        """Volleys inwards from points `z` [m,C,H,W] of `row` [m] (of games `i` [n]) until one has hits.

        Each game moves to its nearest hit, or without one to its nearest point; returns the games without.
        """
        games, steps, of = self.games, self.steps, i[row]
        x0 = games.x0[of]
        far = self.proposals.distance(z - x0)
        left = torch.ones_like(i, dtype=torch.bool)
        for _ in range(self.attack.trials):
            k = (left[row] & games.state.open[of]).nonzero().squeeze(1)
            if not len(k):
                break
            image = self.proposals.inwards(x0[k], z[k], far[k], steps.epsilon[of[k]])
            fooled = yield from games.fools(image, of[k], CANDIDATE)
            tried, hits = (torch.bincount(rows, minlength=len(i)) for rows in (row[k], row[k[fooled]]))
            asked = tried > 0
            steps.adapt(steps.epsilon, i[asked], hits[asked] / tried[asked])
            left &= hits == 0
            yield from self.move(image[fooled], of[k[fooled]])
        ends = left[row] & games.state.open[of]
        yield from self.move(z[ends], of[ends])
        return i[left]

    def move(self, x: Tensor, of: Tensor) -> Play:
        """Move each of the games `of` [m] named to the nearest of its points `x` [m,C,H,W]."""
        nearest = nearest_of_each(of, self.proposals.distance(x - self.games.x0[of]))
        self.x[of[nearest]] = x[nearest]
        yield from self.stand(of[nearest])


def linear_scan(games: Games, x: Tensor, i: Tensor, levels: int) -> Searching:
    """The first adversarial one of `levels` blends [n,C,H,W] from x0 to adversarial `x` of games `i` [n]."""
    x0, found, rows = games.x0[i], x.clone(), torch.arange(len(i), device=i.device)
    for level in range(1, levels):
        rows = rows[games.state.open[i[rows]]]
        if not len(rows):
            break
        t = torch.full((len(rows),), level / levels, dtype=torch.float64, device=x.device)
        image = blend(x0[rows], x[rows], t)
        fooled = yield from games.fools(image, i[rows], SEARCH)
        found[rows[fooled]] = image[fooled]
        rows = rows[~fooled]
    return found
