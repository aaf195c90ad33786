"""The smallest change of an image that a defender with a memory lets pass, found by asking (OARS: adapt)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.attackers.parts.searches import Searching
from arena.players import Games

ADAPT = "adapt"
"""The purpose of the queries that find out what is refused."""
Sized = Callable[[Tensor, Tensor], Tensor]
"""Images [k,P,C,H,W] changed by sizes [k] float64, P fresh ones for each row [k] (index into the games)."""


@dataclass(frozen=True)
class Adaptation:
    """How a size is adapted: `steps` halvings of a bracket, each judged by the share refused of `probes`.

    Attributes:
        rate: the largest share of refusals that passes.
        whole: sizes are whole numbers; the bracket is halved until two of them are left.
    """

    rate: float
    steps: int
    probes: int
    whole: bool = False

    def smallest(
        self, games: Games, i: Tensor, low: Tensor | float, high: Tensor | float, images: Sized
    ) -> Searching:
        """The smallest sizes [n] float64 between `low` and `high` that pass in games `i` [n].

        A size passes if at most `rate` of its probes were refused. Where none does it is `high`; where
        nothing is ever refused, or the service does not say so, what comes out lies next to `low`. A game
        whose budget ends on the way keeps what passed last.
        """
        none = games.x0.new_zeros(len(i), dtype=torch.float64)
        lower, upper = none + low, none + high
        for _ in range(self.steps):
            wide = upper - lower > (1 if self.whole else 0)
            rows = (wide & games.state.open[i]).nonzero().squeeze(1)
            if not len(rows):
                break
            middle = (lower + upper) / 2
            size = middle.floor() if self.whole else middle
            for part in torch.split(rows, max(1, games.max_rows // self.probes)):
                asked = images(size[part], part).flatten(0, 1)
                answers = yield from games.ask(asked, i[part].repeat_interleave(self.probes), ADAPT)
                refused = answers.refused.view(-1, self.probes).sum(dim=1)
                told = refused + answers.answered.view(-1, self.probes).sum(dim=1)
                passes = (refused <= self.rate * told) & (told > 0)
                upper[part] = torch.where(passes, size[part], upper[part])
                lower[part] = torch.where(passes, lower[part], size[part])
        return upper
