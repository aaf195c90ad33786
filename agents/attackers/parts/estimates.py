"""The normal of the boundary from the labels of probes around a point on it, streamed."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from arena.players import Answers, Games, Move
from arena.rules.purposes import GRADIENT

BLOCK = 8
"""Probes of a game drawn and summed at a time, whatever else a volley holds: else how many games there are
would decide draws and last bits."""

Probes = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Fresh probes for rows [k] (index into the games asked): images and directions, each [k,BLOCK,C,H,W]."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """Sums over the B probes of each of n games that were answered.

    Attributes:
        phi_u: [n,C,H,W], the sum of phi(x_b) u_b, phi = +1 where adversarial, -1 where not.
        u: [n,C,H,W], the sum of u_b.
        phi: [n], the sum of phi(x_b).
        count: [n], B.
    """

    phi_u: Tensor
    u: Tensor
    phi: Tensor
    count: Tensor

    @property
    def unanimous(self) -> Tensor:
        """[n] bool: all probes fell on one side, so that the estimate knows no more than that."""
        return self.phi.abs() >= self.count

    def normal(self) -> Tensor:
        """The unit normal [n,C,H,W] towards the adversarial side (HopSkipJump, eq. 16).

        sum (phi_b - mean phi) u_b; where all phi are equal, the mean direction with their sign. 0 where
        nothing was answered.
        """
        baseline = torch.where(self.unanimous, 0.0, self.phi / self.count.clamp_min(1))
        v = self.phi_u - self.u * baseline.view(-1, 1, 1, 1)
        return unit(v)


def estimate(
    games: Games, i: Tensor, count: int | Tensor, probes: Probes
) -> Generator[Move, Answers, Estimate]:
    """Ask `count` probes of each of games `i` [n], in volleys that hold as many blocks as there is room for.

    What the budget does not reach any more, or was refused, is left out of the sums. A tensor `count` [n]
    int64 holds multiples of BLOCK.
    """
    sums = no_probes(games, i)
    wanted, done = torch.as_tensor(count, device=i.device).expand(len(i)), 0
    while True:
        rows = (games.state.open[i] & (wanted > done)).nonzero().squeeze(1)
        if not len(rows):
            break
        left = (count if isinstance(count, int) else int(count[rows].min())) - done
        room = max(1, games.max_rows // (len(rows) * BLOCK))
        blocks = [probes(rows) for _ in range(min(room, -(-left // BLOCK)))]
        images = torch.cat([x for x, _ in blocks], dim=1)[:, :left]
        directions = torch.cat([u for _, u in blocks], dim=1)
        del blocks  # at 224 pixels they are gigabytes, while the volley waits for its answers
        yield from ask_probes(games, i, rows, images, directions, sums)
        done += images.shape[1]
    return sums


def no_probes(games: Games, i: Tensor) -> Estimate:
    """Of games `i` [n], before any probe is asked."""
    none = torch.zeros_like(games.x0[i])
    return Estimate(none, none.clone(), games.x0.new_zeros(len(i)), games.x0.new_zeros(len(i)))


def ask_probes(
    games: Games,
    i: Tensor,
    rows: Tensor,
    images: Tensor,
    directions: Tensor,
    sums: Estimate,
    valid: Tensor | None = None,
) -> Generator[Move, Answers, None]:
    """Ask `images` [k,m,C,H,W] of games `i[rows]` and add what was answered to `sums`.

    Only those that are True in `valid` [k,m], if that is given.
    """
    k, m = images.shape[:2]
    game, known, phi = i[rows].repeat_interleave(m), images.new_zeros(k * m), images.new_zeros(k * m)
    asked = slice(None) if valid is None else valid.flatten()
    answers = yield from games.ask(images.flatten(0, 1)[asked], game[asked], GRADIENT)
    known[asked] = answers.answered.float()
    phi[asked] = torch.where(games.wrong(answers), known[asked], -known[asked])
    known, phi = known.view(k, m), phi.view(k, m)
    phi_u, u = sums.phi_u[rows], sums.u[rows]
    for b in range(m):  # one after the other, so that a sum does not depend on the shape of the volley
        phi_u.addcmul_(phi[:, b].view(-1, 1, 1, 1), directions[:, b])
        u.addcmul_(known[:, b].view(-1, 1, 1, 1), directions[:, b])
    sums.phi_u[rows], sums.u[rows] = phi_u, u
    sums.phi[rows] += phi.sum(dim=1)
    sums.count[rows] += known.sum(dim=1)


def unit(v: Tensor) -> Tensor:
    """`v` [n,C,H,W] or [n,m,C,H,W] over its l2 length per image; 0 stays 0."""
    # In two stages: the sum over a large image alone in its batch is cut among threads.
    length = torch.linalg.vector_norm(torch.linalg.vector_norm(v, dim=-1).flatten(-2), dim=-1)
    scaled: Tensor = v / length.clamp_min(1e-12)[..., None, None, None]
    return scaled
