"""Where on a path the label changes: searches on brackets in float64, in step for all games.

Brackets close far below what float32 resolves beside 1 (HopSkipJump's at 1.7e-8 on ImageNet), and an answer
may be noise: every loop is capped, and what a search returns was answered adversarial.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator

import torch
from torch import Tensor

from arena.players import Answers, Games, Move
from arena.rules.geometry import distance
from arena.rules.purposes import SEARCH

HALVINGS = 25
"""Of one search to a width in l2: to 1e-4 from the far corner of an image of 224 pixels."""

Path = Callable[[Tensor, Tensor], Tensor]
"""Images [m,C,H,W] at places t [m] float64 of the paths of rows [m] (index into the games searched).

Rows that are asked for again come as the same tensor.
"""
Searching = Generator[Move, Answers, Tensor]
Deciding = Generator[Move, Answers, tuple[Tensor, Tensor]]


def bisect(
    games: Games,
    i: Tensor,
    path: Path,
    benign: Tensor,
    adversarial: Tensor,
    *,
    width: Tensor | float,
    steps: int,
    purpose: str = SEARCH,
    until_refused: bool = False,
) -> Searching:
    """Halve brackets on the paths of games `i` [n] until none is wider than `width`, `steps` times at most.

    Args:
        benign, adversarial: [n] float64, the ends. What is not answered counts as benign.
        width: [n] float64 or a number.
        until_refused: a search ends where a row of it is refused.

    Returns:
        The adversarial ends [n] float64.
    """
    found = adversarial.clone()
    rows, game = torch.arange(len(i), device=i.device), i
    for _ in range(steps):
        wide = ((adversarial - benign).abs() > width) & games.state.open[game]
        on = wide.nonzero().squeeze(1)
        if len(on) < len(rows):
            # Games close and brackets narrow for good: these rows are done.
            found[rows] = adversarial
            rows, game, benign, adversarial = rows[on], game[on], benign[on], adversarial[on]
            width = width[on] if isinstance(width, Tensor) else width
        if not len(rows):
            break
        middle = (benign + adversarial) / 2
        answers = yield from games.ask(path(middle, rows), game, purpose)
        fooled = games.wrong(answers)
        adversarial = torch.where(fooled, middle, adversarial)
        benign = torch.where(fooled, benign, middle)
        if until_refused:
            benign = torch.where(answers.refused, adversarial, benign)
    found[rows] = adversarial
    return found


def halvings(relative_width: float) -> int:
    """How many halvings bring a bracket of width 1 to `relative_width`."""
    return max(1, math.ceil(math.log2(1 / relative_width)))


def blend(x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """(1 - t) x0 + t x, [n,C,H,W] for t [n] float64."""
    start = x0.double()
    return (start + (x - start) * _rows(t)).float().clamp_(0, 1)


def clip_to(x0: Tensor, x: Tensor, r: Tensor) -> Tensor:
    """x0 + Clip(x - x0, -r, r), [n,C,H,W] for radii r [n] float64."""
    start, radius = x0.double(), _rows(r)
    return (start + (x - start).clamp(-radius, radius)).float().clamp_(0, 1)


def blend_search(
    games: Games, x: Tensor, i: Tensor, width: float, *, until_refused: bool = False
) -> Searching:
    """From adversarial `x` [n,C,H,W] straight towards x0 to the boundary, the blend known to `width`.

    Returns the images [n,C,H,W] on the adversarial side; l2. `until_refused` as in `bisect`.
    """
    return (yield from _straight(games, x, i, width, halvings(width), until_refused=until_refused))


def gap_search(games: Games, x: Tensor, i: Tensor, gap: float) -> Searching:
    """`blend_search` until the boundary is at most `gap` ahead in l2, whatever the distance from x0."""
    far = distance(x, games.x0[i], "l2").double()
    return (yield from _straight(games, x, i, gap / far.clamp_min(1e-30), HALVINGS))


def clip_search(
    games: Games, x: Tensor, i: Tensor, width: float, *, until_refused: bool = False
) -> Searching:
    """From adversarial `x` [n,C,H,W] to the smallest radius of a box around x0 that it may be clipped to.

    Until the radius r, from D = max |x - x0|, is known to min(D `width`, `width`). Returns the images
    [n,C,H,W] on the adversarial side; linf. `until_refused` as in `bisect`.
    """
    x0 = games.x0[i]
    far = (x - x0).abs().flatten(1).amax(dim=1).double()
    r = yield from bisect(
        games,
        i,
        lambda r, rows: clip_to(x0[rows], x[rows], r),
        torch.zeros_like(far),
        far,
        width=(far * width).clamp_max(width),
        steps=halvings(width),
        until_refused=until_refused,
    )
    return torch.where(_rows(r) < _rows(far), clip_to(x0, x, r), x)


def boundary_search(
    games: Games, x: Tensor, i: Tensor, width: float, *, until_refused: bool = False
) -> Searching:
    """`blend_search` in l2, `clip_search` in linf."""
    search = blend_search if games.threat.norm == "l2" else clip_search
    return (yield from search(games, x, i, width, until_refused=until_refused))


def decide(games: Games, x: Tensor, i: Tensor, purpose: str) -> Deciding:
    """Query `x` [n,C,H,W] for games `i` [n]: [n] bool each, answered with a label that wins, and refused.

    Rows of closed games are not sent; they are neither.
    """
    alive = games.state.open[i].nonzero().squeeze(1)
    fooled, refused = torch.zeros(2, len(i), dtype=torch.bool, device=i.device).unbind()
    answers = yield from games.ask(x[alive], i[alive], purpose)
    fooled[alive], refused[alive] = games.wrong(answers), answers.refused
    return fooled, refused


def _straight(
    games: Games,
    x: Tensor,
    i: Tensor,
    width: Tensor | float,
    steps: int,
    *,
    until_refused: bool = False,
) -> Searching:
    x0 = games.x0[i]
    ones = torch.ones(len(x), dtype=torch.float64, device=x.device)
    t = yield from bisect(
        games,
        i,
        lambda t, rows: blend(x0[rows], x[rows], t),
        torch.zeros_like(ones),
        ones,
        width=width,
        steps=steps,
        until_refused=until_refused,
    )
    return torch.where(_rows(t) < 1, blend(x0, x, t), x)


def _rows(value: Tensor) -> Tensor:
    """[n] as [n,1,1,1]."""
    return value.view(-1, 1, 1, 1)
