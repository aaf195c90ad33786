"""RamBoAttack: a gradient attack until it is slow, then pixel by pixel, then Sign-OPT."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from itertools import count
from typing import Literal

import torch
from torch import Tensor

from agents.attackers.decision.hop_skip_jump import HopSkipJump
from agents.attackers.decision.sign_opt import SignOpt
from agents.attackers.parts.block_descent import BlockDescent, BlockRule
from agents.attackers.parts.claims import stand_by
from agents.attackers.parts.directions import CONVERGED, Descent, Directions, find_direction, normed
from agents.parameters import check_parameters
from arena.players import Answers, Attacker, Games, Move, Needs, Play

Stage = Generator[Move, Answers, Tensor]
ITERATIONS = 150
"""HopSkipJump's largest number of probes."""


@dataclass(frozen=True)
class RamBo(Attacker):
    """RamBoAttack (Vo, Abbasnejad and Ranasinghe, NDSS 2022), l2, untargeted and targeted.

    As in the authors' code, with its untargeted stages repaired: HopSkipJump gets a start there, and Sign-OPT
    continues from a direction of unit length. Every game changes from stage to stage on its own. The defaults
    are the authors' for CIFAR-10; theirs for ImageNet are in brackets.

    Attributes:
        first: the first stage: `hop-skip-jump` (RBH) or `sign-opt` (RBS).
        check_probes: HopSkipJump is judged whenever it asked more probes than this [2000].
        check_iterations: Sign-OPT is judged after every so many iterations [4].
        slow: it is left if its distance fell by less than this since it was last judged [1].
        block: m, positions that BlockDescent tries at a time [16].
        shrink: lambda, by which its steps are divided after each pass over all positions [2].
        reach: w; the (2w+1)^2 values around a position in its channel move with it.
        percentile: its first step is that percentile of |x - x0| [50].
        window: it is judged after every so many queries [1000].
        least_gain: it is left if the mean distance over them fell by less than this [0.1].
        fallback: if no noise is adversarial, start from an image granted (`find_start`).
    """

    first: Literal["hop-skip-jump", "sign-opt"] = "hop-skip-jump"
    check_probes: int = 500
    check_iterations: int = 2
    slow: float = 0.01
    block: int = 1
    shrink: float = 1.2
    reach: int = 1
    percentile: float = 100.0
    window: int = 500
    least_gain: float = 0.01
    fallback: bool = False

    needs = Needs(norms=("l2",), starts="targeted")

    def __post_init__(self) -> None:
        check_parameters(self, counts=("check_probes", "check_iterations", "block", "window"))
        for name in ("slow", "least_gain", "reach"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative; found {getattr(self, name)}")
        if not 1 < self.shrink < math.inf:
            raise ValueError(f"shrink must be finite and above 1; found {self.shrink}")
        if not 0 <= self.percentile <= 100:
            raise ValueError(f"percentile must be from 0 to 100; found {self.percentile}")

    def play(self, games: Games) -> Play:
        x = yield from (self.hop(games) if self.first == "hop-skip-jump" else self.descend_first(games))
        rule = BlockRule(self.block, self.shrink, self.reach, self.percentile, self.window, self.least_gain)
        yield from BlockDescent(games, x, rule).play()
        best = Directions(*normed(x - games.x0, "l2"))
        yield from self.descend(games, best, None)

    def hop(self, games: Games) -> Stage:
        """HopSkipJump until it is slow: adversarial images [G,C,H,W]."""
        inner = HopSkipJump(fallback=self.fallback)
        x = yield from inner.begin(games)
        pace, probes = _Pace(len(x), self.slow, x.device), 0

        def going_on(t: int, i: Tensor) -> Tensor:
            nonlocal probes
            if probes > self.check_probes:
                pace.judge(games.distance(x), i)
                probes = 0
            probes += int(inner.initial_probes * math.sqrt(t))
            return i[pace.going[i]] if t <= ITERATIONS else i[:0]

        yield from inner.walk(games, x, going_on)
        return x

    def descend_first(self, games: Games) -> Stage:
        """Sign-OPT until it is slow: adversarial images [G,C,H,W]."""
        best = yield from find_direction(games, SignOpt().init_draws, fallback=self.fallback)
        pace = _Pace(len(best.g), self.slow, best.g.device)
        x = games.x0.clone()
        x[games.open] = (yield from self.descend(games, best, pace)).image(games.open)
        return x

    def descend(
        self, games: Games, best: Directions, pace: _Pace | None
    ) -> Generator[Move, Answers, Descent]:
        """Sign-OPT from the directions `best`, in every game until it is slow, if there is a `pace`."""
        inner = SignOpt()
        # A first stage that has converged is slow, too: its games go on to BlockDescent.
        least_beta = CONVERGED if pace is None else 0.0
        descent = Descent.start(games, best, inner.alpha, inner.beta, least_beta)
        for t in count():
            i = games.open if pace is None else games.open[pace.going[games.open]]
            yield from stand_by(games, descent.image(i), i)
            i = i[games.state.open[i]]
            # The authors judge after the iterations 0, n, 2n, ...
            if pace is not None and t % self.check_iterations == 1 % self.check_iterations:
                pace.judge(best.g, i)
                i = i[pace.going[i]]
            if not len(i):
                break
            yield from descent.line_search((yield from inner.gradient(descent, i)), i)
            yield from descent.refine(i)
        return descent


class _Pace:
    """Whether games still make progress: `going` [G] bool."""

    def __init__(self, games: int, slow: float, device: torch.device) -> None:
        self.slow = slow
        self.going = torch.ones(games, dtype=torch.bool, device=device)
        self.before = torch.full((games,), torch.inf, dtype=torch.float64, device=device)

    def judge(self, distance: Tensor, i: Tensor) -> None:
        """Games `i` [n] are slow if their `distance` [G] fell by less since they were last judged."""
        now = distance[i].double()
        self.going[i] &= self.before[i] - now >= self.slow
        self.before[i] = now
