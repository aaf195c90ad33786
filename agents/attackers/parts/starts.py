"""Where a decision-based attack begins: an adversarial image, far away."""

from __future__ import annotations

from collections.abc import Callable, Generator

import torch
from torch import Tensor

from agents.attackers.parts.claims import in_doubt
from arena.players import Answers, Games, Move
from arena.rules.outcome import wins
from arena.rules.purposes import START

NEAREST_TRIES = 10
"""How many of the nearest images of other classes are asked before a game counts as without start."""

Starting = Generator[Move, Answers, Tensor]
Noise = Callable[[int, Tensor], Tensor]
"""The images [n,C,H,W] of the k-th draw, k from 1, for games i [n]."""


def find_start(games: Games, draws: int, *, fallback: bool = False, noise: Noise | None = None) -> Starting:
    """Adversarial images [G,C,H,W] from which to start; games without one are resigned as `no-start`.

    Untargeted: `noise` (None: uniform), drawn up to `draws` times a game. The network may call all noise y;
    with `fallback` such a game starts from an image granted to the attacker (the nearest with another label,
    else that of `resources.starts`). Targeted: from that of `resources.starts`. Each is asked, and charged.
    """
    x = games.x0.clone()
    found = torch.zeros(len(games), dtype=torch.bool, device=x.device)
    if not games.threat.targeted:
        yield from _noise(games, x, found, draws, noise or (lambda k, i: games.uniform(x.shape[1:], i)))
    if fallback and games.resources.images is not None:
        yield from nearest_start(games, x, found)
    if fallback or games.threat.targeted:
        yield from given_start(games, x, found)
    yield from games.resign((~found).nonzero().squeeze(1), "no-start")
    return x


def _noise(games: Games, x: Tensor, found: Tensor, draws: int, noise: Noise) -> Starting:
    for k in range(1, draws + 1):
        i = missing(games, found)
        if not len(i):
            break
        yield from take_adversarial(games, x, found, noise(k, i), i)
    return found


def stronger_noise(games: Games, step: float) -> Noise:
    """Gaussian noise around x0 for `find_start`, of a standard deviation of k `step` at the k-th draw."""

    def noise(k: int, i: Tensor) -> Tensor:
        return (games.x0[i] + step * k * games.normal(games.x0.shape[1:], i)).clamp_(0, 1)

    return noise


def given_start(games: Games, x: Tensor, found: Tensor) -> Starting:
    """Enter the starting images granted into `x` and `found` where games have none yet and they win.

    Where answers are no facts, one that does not win is asked again, up to 10 times in all.
    """
    starts = games.resources.starts
    if starts is not None:
        for _ in range(NEAREST_TRIES if in_doubt(games) else 1):
            i = missing(games, found)
            i = i[starts[i].flatten(1).isfinite().all(dim=1)]
            yield from take_adversarial(games, x, found, starts[i], i)
    return found


def nearest_start(games: Games, x: Tensor, found: Tensor) -> Starting:
    """Enter the nearest (l2) of the images granted whose label wins, here and before the service.

    Raises:
        ValueError: if the attacker was granted no images.
    """
    images, labels = games.resources.images, games.resources.labels
    if images is None or labels is None:
        raise ValueError("starting from the nearest image needs images (resources.images); none were granted")
    order, count = nearest_images(games, images, labels)
    for rank in range(min(NEAREST_TRIES, len(images))):
        i = missing(games, found)
        i = i[rank < count[i]]
        yield from take_adversarial(games, x, found, images[order[i, rank]], i)
    return found


def nearest_images(games: Games, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The `images` [m,C,H,W] by l2 distance, those whose label wins first: [G,m]; how many do: [G]."""
    target = None if games.target is None else games.target.unsqueeze(1)
    fits = wins(labels, games.label.unsqueeze(1), target)
    far = torch.stack([(images - x0).flatten(1).square().sum(dim=1) for x0 in games.x0])
    return torch.where(fits, far, torch.inf).argsort(dim=1, stable=True), fits.sum(dim=1)


def missing(games: Games, found: Tensor) -> Tensor:
    """Index of the open games that are not yet True in `found` [G]."""
    i = games.open
    return i[~found[i]]


def take_adversarial(games: Games, x: Tensor, found: Tensor, candidate: Tensor, i: Tensor) -> Starting:
    """Ask `candidate` [n,C,H,W] for games `i` [n]; what is adversarial is entered into `x` and `found`."""
    fooled = yield from games.fools(candidate, i, START)
    x[i[fooled]], found[i[fooled]] = candidate[fooled], True
    return fooled
