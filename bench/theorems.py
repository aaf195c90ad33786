"""The three theorems of the slides to Random Noise Defense (Qin, Fan, Zha and Wu, NeurIPS 2021) on scores
whose Lipschitz constants are known, defended by `rnd` itself: what is measured, beside the bound, and beside
the exact value where there is one.

python -m bench theorems [--d 64] [--samples 2000] [--runs 20] [--steps 50] [--seed 0]

Theorems 1 and 2 bound the mean squared gradient of f_{mu,nu}, f smoothed by both noises, along a descent
(eq. 11) with the estimate of eq. 7, or with M answers for each image (eq. 13). Both rest on a bound of
E|g|^2, which is measured too. Theorem 3 bounds how often noise flips the sign of a comparison.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist

import torch
from torch import Tensor, nn

from agents.defenders.rnd import RND
from arena.classifiers import Classifier
from arena.evaluation.cost import first_queries
from arena.game.stack import Stack
from arena.game.stack_oracle import StackOracle
from bench.tables import table

L0 = 1.0
RADIUS = 1.0
"""R of the theorems: a descent stays so near to where it began."""
ROWS = 4096


class Linear(nn.Module):
    """f(x) = <w, x>, |w| = L0: L1 is 0. The logits are f and 0, so that the margin of class 0 is f."""

    L1 = 0.0

    def __init__(self, d: int) -> None:
        super().__init__()
        self.register_buffer("w", nn.functional.normalize(torch.linspace(1, 2, d).cos(), dim=0) * L0)

    def score(self, x: Tensor) -> Tensor:
        """f [n] of x [n,d]."""
        value: Tensor = x @ self.w.to(x.dtype)
        return value

    def slope(self, x: Tensor) -> Tensor:
        """The gradient of f, [n,d]."""
        w: Tensor = self.w.to(x.dtype)  # type: ignore[operator, assignment]
        return w.expand_as(x)

    def least(self, x: Tensor) -> Tensor:
        """The least f [n] within `RADIUS` around x [n,d]."""
        return self.score(x) - L0 * RADIUS

    def forward(self, x: Tensor) -> Tensor:
        value = self.score(x.flatten(1))
        return torch.stack([value, torch.zeros_like(value)], dim=1)


class Bowl(Linear):
    """f(x) = L0 delta (sqrt(1 + |x - c|^2 / delta^2) - 1), delta = L0 / L1: no steeper than L0, its slope no
    steeper than L1, both reached; c is the middle of the box."""

    L1 = 4.0

    def score(self, x: Tensor) -> Tensor:
        delta = L0 / self.L1
        return L0 * delta * ((1 + (x - 0.5).square().sum(dim=-1) / delta**2).sqrt() - 1)

    def slope(self, x: Tensor) -> Tensor:
        delta = L0 / self.L1
        far = 1 + (x - 0.5).square().sum(dim=-1, keepdim=True) / delta**2
        return L0 / delta * (x - 0.5) / far.sqrt()

    def least(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), dtype=x.dtype)


SCORES: Mapping[str, type[Linear]] = {"linear": Linear, "bowl": Bowl}


@dataclass
class Noisy:
    """A score defended by RND without a box, as the theorems have it: each answer with a noise of its own."""

    score: Linear
    d: int
    nu: float
    seed: int = 0
    draws: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        base = Classifier(self.score, shape=(1, 1, self.d), classes=2, batch=ROWS)
        defenders = (RND(nu=self.nu, clamp=False),) if self.nu else ()
        self._oracle = StackOracle(Stack(base, defenders), seed=self.seed, games=1)
        self._asked = 0
        self.draws = torch.Generator().manual_seed(self.seed)

    def ask(self, x: Tensor) -> Tensor:
        """f [n] float64 of the answers to x [n,d]."""
        images = x.float().view(-1, 1, 1, self.d)
        key = torch.arange(self._asked, self._asked + len(x))
        self._asked += len(x)
        scores = self._oracle.respond(images, first_queries(len(x), x.device, key)).scores.double()
        return scores[:, 0] - scores[:, 1]

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.draws, dtype=torch.float64)

    def estimates(self, x: Tensor, mu: float, repeats: int = 1) -> Tensor:
        """g [n,d] at x [n,d]: (f(x + mu u + nu v_1) - f(x + nu v_2)) / mu u, the difference a mean over
        `repeats` (M) pairs of noises (eq. 7 and 13)."""
        u = self.normal(*x.shape)
        ahead = self.ask((x + mu * u).repeat_interleave(repeats, 0)).view(-1, repeats)
        here = self.ask(x.repeat_interleave(repeats, 0)).view(-1, repeats)
        return (ahead - here).mean(dim=1, keepdim=True) / mu * u

    def smoothed_slope(self, x: Tensor, mu: float, samples: int = 256) -> Tensor:
        """The gradient [n,d] of f smoothed by both noises: the mean of f's own at x + sqrt(mu^2 + nu^2) v."""
        width = math.hypot(mu, self.nu)
        points = x.unsqueeze(1) + width * self.normal(len(x), samples, self.d)
        return self.score.slope(points).mean(dim=1)


def bound_of_squares(d: int, l1: float, mu: float, nu: float, repeats: int) -> float:
    """The bound of E|g|^2 on which theorem 1 rests, or for M > 1 theorem 2."""
    alpha = nu / mu
    if repeats == 1:
        return 2 * (L0 * d * (alpha + math.sqrt(2) / 2)) ** 2
    curved = 2 * nu**2 * L0 * l1 / mu * d**2.5 + nu**4 * l1**2 * (repeats + 1) / (mu**2 * repeats) * d**3
    return float((L0 * d) ** 2 * (1 + 4 * alpha**2 / repeats) + curved)


def squares(d: int, samples: int, seed: int) -> Iterator[dict[str, object]]:
    """E|g|^2 over L0^2 d: how a gradient's estimate drowns as nu grows, and what M answers save."""
    for name, kind in SCORES.items():
        for mu, nu, repeats in (
            *((mu, nu, 1) for mu in (0.01, 0.1) for nu in (0.0, 0.01, 0.1)),
            *((0.01, 0.1, repeats) for repeats in (5, 20, 100)),
        ):
            noisy = Noisy(kind(d), d, nu, seed)
            x = torch.full((samples, d), 0.6, dtype=torch.float64)
            measured = float(noisy.estimates(x, mu, repeats).square().sum(dim=1).mean())
            exact = L0**2 * (d + 2 + 2 * (nu / mu) ** 2 * d / repeats)
            yield {
                "score": name,
                "mu": mu,
                "nu": nu,
                "M": repeats,
                "measured": measured / (L0**2 * d),
                "exact": exact / (L0**2 * d) if name == "linear" else "",
                "bound": bound_of_squares(d, kind.L1, mu, nu, repeats) / (L0**2 * d),
            }


def descents(d: int, runs: int, steps: int, seed: int) -> Iterator[dict[str, object]]:
    """The mean of |grad f_{mu,nu}|^2 along a descent of constant step, and the bound of theorem 1 (M = 1) or
    2."""
    kind, mu, eta = Bowl, 0.1, 0.002
    for nu, repeats in ((0.0, 1), (0.01, 1), (0.1, 1), (0.3, 1), (0.3, 5), (0.3, 20)):
        noisy = Noisy(kind(d), d, nu, seed)
        start = 0.5 + 0.1 * torch.ones(runs, d, dtype=torch.float64)
        x, total = start.clone(), 0.0
        for _ in range(steps + 1):
            total += float(noisy.smoothed_slope(x, mu).square().sum(dim=1).mean())
            moved = x - eta * noisy.estimates(x, mu, repeats) - start
            x = start + moved * (RADIUS / moved.norm(dim=1, keepdim=True)).clamp_max(1)
        length = (steps + 1) * eta
        # At least f_{mu,nu}(x_0) - f*_nu: smoothing adds at most the width's share, and lowers no minimum.
        width = math.hypot(mu, nu)
        fall = float((noisy.score.score(start) + width * L0 * math.sqrt(d) - noisy.score.least(start)).mean())
        squares_bound = bound_of_squares(d, kind.L1, mu, nu, repeats)
        if repeats == 1:
            bound = fall / length + eta * squares_bound * L0 * math.sqrt(d) / (2 * mu)
        else:
            bound = L0 * RADIUS / length + eta * squares_bound * kind.L1 / 2
        yield {
            "nu": nu,
            "M": repeats,
            "mean |slope|^2": total / (steps + 1),
            "f at the end": float(noisy.score.score(x).mean()),
            "bound": bound,
            "theorem": 1 if repeats == 1 else 2,
        }


def flips(d: int, samples: int, seed: int) -> Iterator[dict[str, object]]:
    """How often Sign h_nu differs from Sign h_mu, h = f(x + mu u) - f(x) (theorem 3)."""
    for name, kind in SCORES.items():
        for mu in (0.01, 0.1):
            for nu in (0.001, 0.01, 0.1):
                noisy = Noisy(kind(d), d, nu, seed)
                x = torch.full((1, d), 0.6, dtype=torch.float64)
                probe = x + mu * noisy.normal(1, d)
                h = float(noisy.score.score(probe) - noisy.score.score(x))
                compared = noisy.ask(probe.expand(samples, -1)) - noisy.ask(x.expand(samples, -1))
                rate = float((compared.sign() != math.copysign(1, h)).double().mean())
                exact = NormalDist().cdf(-abs(h) / (math.sqrt(2) * nu * L0))
                yield {
                    "score": name,
                    "mu": mu,
                    "nu": nu,
                    "|h|": abs(h),
                    "flips": rate,
                    "exact": exact if name == "linear" else "",
                    "bound": 2 * L0 * nu * math.sqrt(d) / abs(h),
                }


def main() -> None:
    parser = argparse.ArgumentParser(description="RND's three theorems on scores with known constants.")
    parser.add_argument("--d", type=int, default=64)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    print("E|g|^2 over L0^2 d, on which theorems 1 (M = 1) and 2 rest")
    print(table(list(squares(told.d, told.samples, told.seed))))
    print("\nDescents on the bowl, mu .1")
    print(table(list(descents(told.d, told.runs, told.steps, told.seed))))
    print("\nTheorem 3: comparisons that noise flips")
    print(table(list(flips(told.d, told.samples, told.seed))))


if __name__ == "__main__":
    main()
