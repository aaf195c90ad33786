"""Jitter: the uncertainty-aware attack for defenses that answer the same query alike each time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.attackers.adaptive.uncertainty_aware import UncertaintyAware
from agents.attackers.parts.estimates import unit
from agents.attackers.parts.ranks import rank_within
from agents.attackers.parts.repeats import Vary
from agents.parameters import check_parameters
from arena import draws
from arena.players import Games

LEVEL = 1 / 255


@dataclass(frozen=True)
class Jitter(UncertaintyAware):
    """The uncertainty-aware attack on answers that only look random, such as those of PredCoin's conv parity.

    There the answer is a function of the query, so repeating a query only costs; but any change gives a new
    parity. So the first of k repeats is the query itself, and the others are a step of length `radius` in
    random directions away from it; if the service rounds to 8 bits, one level in one random value of the
    image. This is our attack; it combines the k answers as `UncertaintyAware` does.

    Attributes:
        radius: the l2 length of a jitter; it should be well below the radius of the inner attack's probes,
            which for HopSkipJump is D / d.
    """

    radius: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parameters(self, positive=("radius",))

    def vary(self, games: Games) -> Vary:
        asked = torch.zeros(len(games), dtype=torch.int64, device=games.x0.device)
        seed, fresh = draws.derive(games.seed, "jitter"), self.repeats - 1
        rounds = games.threat.quantisation != "none"

        def vary(x: Tensor, game: Tensor) -> Tensor:
            key, turn = games.key[game], asked[game] + rank_within(game)
            asked.scatter_add_(0, game, torch.ones_like(game))
            rows = x.unsqueeze(1)
            if rounds:
                place = draws.integers(x[0].numel(), seed, key, turn, (fresh, 1))
                inwards = torch.where(rows < 0.5, LEVEL, -LEVEL).expand(-1, fresh, -1, -1, -1).flatten(2)
                jitter = torch.zeros_like(inwards).scatter_(2, place, inwards.gather(2, place))
            else:
                jitter = unit(draws.normal(seed, key, turn, (fresh, *x.shape[1:]))).mul_(self.radius)
            jittered = (rows + jitter.view(-1, fresh, *x.shape[1:])).clamp_(0, 1)
            return torch.cat([rows, jittered], dim=1).flatten(0, 1)

        return vary
