"""Streams of queries that GWAD learns from: attacks played against the undefended classifier, and images."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from agents.attackers.decision.boundary import Boundary
from agents.attackers.decision.hop_skip_jump import HopSkipJump
from agents.attackers.decision.sign_flip import SignFlip
from agents.attackers.decision.sign_opt import SignOpt
from agents.attackers.score.nes import NES
from agents.attackers.score.simba import SimBA
from agents.defenders.parts.rehearsal import BUDGET, Rehearsal, play
from agents.defenders.stateful.updates import centred
from arena import draws
from arena.classifiers import Classifier
from arena.players import Answers, Attacker, Resources, Threat, Volley, tell
from arena.rules.outcome import labels_of
from arena.rules.threat import Norm

ATTACKS: dict[str, tuple[Attacker, Norm]] = {
    "hop-skip-jump": (HopSkipJump(fallback=True), "l2"),
    "nes": (NES(), "linf"),
    "simba": (SimBA(), "l2"),
    "sign-opt": (SignOpt(fallback=True), "l2"),
    "sign-flip": (SignFlip(fallback=True), "linf"),
    "boundary": (Boundary(fallback=True), "l2"),
}
"""The six of the authors' classifier."""
RADIUS: dict[Norm, float] = {"linf": 0.1, "l2": 1000.0}
"""Of the ball of an attack by scores: the l_2 ball is as large as space."""


class Recorded(Rehearsal):
    """Answers with logits, never with a hit that ends a game, and keeps the first `length` queries of each.

    Attributes:
        streams: by game: the pieces [m,D] of its stream, centred.
    """

    def __init__(self, classifier: Classifier, x0: Tensor, length: int, max_rows: int) -> None:
        super().__init__(classifier, x0, self._heard, max_rows)
        self.length = length
        self.streams: list[list[Tensor]] = [[] for _ in x0]

    def _heard(self, move: object) -> Tensor:
        over = []
        if isinstance(move, Volley):
            points = centred(move.x).cpu()
            for game in sorted(set(move.game.tolist())):
                self.streams[game].append(points[(move.game == game).cpu()])
                if sum(map(len, self.streams[game])) >= self.length:
                    over.append(game)
        return torch.tensor(over, dtype=torch.int64)

    def ask(self, volley: Volley) -> Answers:
        game = volley.game
        asked = torch.from_numpy(self._open).to(game.device)[game]
        scores = volley.x.new_full((len(game), self.classifier.classes), torch.nan)
        scores[asked] = self.classifier(volley.x[asked])
        self.granted = int(asked.sum())
        return replace(self._standing(game, labels_of(scores), asked), scores=scores)


def attack_streams(
    name: str, classifier: Classifier, x0: Tensor, label: Tensor, length: int, seed: int
) -> list[Tensor]:
    """Streams [length,D] of an attack of ATTACKS from images `x0` [G,C,H,W] of the classes `label` [G]; those
    that it gave up before are left out."""
    attacker, norm = ATTACKS[name]
    host = Recorded(classifier, x0, length, max_rows=4096)
    scores = attacker.needs.feedback != "label"
    threat = Threat(
        norm=norm,
        epsilon=RADIUS[norm] if scores else math.inf,
        budget=BUDGET,
        feedback="logits" if scores else "label",
        objective="first" if scores else "minimum",
    )
    play(attacker, host, x0, label, threat, seed=seed, resources=Resources(images=x0, labels=label))
    whole = [torch.cat(pieces)[:length] for pieces in host.streams if pieces]
    return [stream for stream in whole if len(stream) == length]


def benign_stream(images: Tensor, length: int, seed: int, number: int) -> Tensor:
    """[length,D] of images [n,C,H,W] drawn at random."""
    place = torch.tensor([number])
    rows = draws.integers(len(images), draws.derive(seed, "benign"), place, 0, (length,))[0]
    return centred(images[rows.to(images.device)]).cpu()


def told(name: str, number: int) -> None:
    """Say which attack is being played."""
    tell(f"playing {name} to learn its stream", number, len(ATTACKS))
