"""The scout where labels alone are answered."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from agents.attackers.decision.cgba import CGBA
from agents.attackers.decision.hop_skip_jump import HopSkipJump
from agents.attackers.decision.rays import RayS
from agents.attackers.decision.surfree import SurFree
from agents.attackers.parts import label_diagnosis as diagnosis
from agents.attackers.parts.claims import in_doubt, stand_by
from agents.attackers.parts.searches import bisect, blend
from agents.attackers.parts.soundings import nudged
from agents.attackers.parts.twins import briefly
from agents.parameters import check_parameters
from arena.players import Answers, Attacker, Games, Move, Needs, Play, Threat

SCOUT = "scout"
"""The purpose of the scout's own queries."""
PLACES = (-0.1, -0.02, 0.02, 0.1)
"""Where answers are repeated, on the way to an image that wins, relative to how far the boundary is."""

LabelBelief: TypeAlias = Literal["plain", "noise", "coin", "parity", "refusals"]

LABEL_PLAYS: Mapping[LabelBelief, tuple[Attacker, ...]] = {
    "plain": (CGBA(), RayS(), HopSkipJump()),
    "noise": (SurFree(), RayS(), HopSkipJump()),
    "coin": (SurFree(), RayS(), HopSkipJump()),
    "parity": (SurFree(), RayS(), HopSkipJump()),
    "refusals": (CGBA(), RayS(), HopSkipJump()),
}
"""Which attacker is played against what is believed: the first that can play under the threat. Measured on
digits and ResNet-20; SurFree asks for no estimate, and so lives longest with wrong answers."""
SMALL = 1000
"""On images of no more values SurFree is the quickest anyway, where it can play."""


def suited(belief: LabelBelief, threat: Threat, values: int) -> Attacker:
    """The attacker that is played under `threat` on images of so many values."""
    small = [SurFree()] if values <= SMALL else []
    able = (a for a in (*small, *LABEL_PLAYS[belief]) if a.needs.unmet(threat) is None)
    return next(able)


@dataclass(frozen=True)
class LabelScout(Attacker):
    """`Scout` for decision-based games; ours.

    In each game it asks for an image that wins (uniform noise; targeted: the start that is granted), searches
    the boundary on the way there from x0, and repeats four points beside it, each `repeats` times as it is
    and as often changed by too little to matter. The answers of all games of the shard together decide what
    is believed (`parts.label_diagnosis`). Each game leaves that in the log under the key "believes", and goes
    on with the attacker that `LABEL_PLAYS` names for it and the budget that is left.

    Attributes:
        halvings: of the search.
        repeats: of each point. It spends 1 + halvings + 8 repeats queries of each game: 49, a tenth of 490.
    """

    halvings: int = 8
    repeats: int = 5

    needs = Needs(starts="targeted")
    across_games: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_parameters(self, counts=("halvings", "repeats"))

    @property
    def twin(self) -> Attacker:
        return LABEL_PLAYS["plain"][0]

    @property
    def queries(self) -> int:
        """What scouting costs in each game, at most."""
        return 1 + self.halvings + 2 * len(PLACES) * self.repeats

    def play(self, games: Games) -> Play:
        belief: LabelBelief = "plain"
        if len(games.open):
            belief = yield from self.scout(games)
        if len(i := games.open):
            attacker = suited(belief, games.threat, games.x0[0].numel())
            yield from games.note("believes", belief, i)
            yield from games.note("plays", briefly(attacker), i)
            yield from attacker.play(games.with_budget(int(games.left.amax())))

    def scout(self, games: Games) -> Generator[Move, Answers, LabelBelief]:
        """Spend at most `queries` of each open game, and say what is believed."""
        i = games.open
        far = yield from self.find(games, i)
        i, far = i[far.isfinite().flatten(1).all(dim=1)], far[far.isfinite().flatten(1).all(dim=1)]
        ends = torch.zeros(len(i), dtype=torch.float64, device=far.device)
        border = yield from bisect(
            games,
            i,
            lambda t, rows: blend(games.x0[i[rows]], far[rows], t),
            ends,
            ends + 1,
            width=0.0,
            steps=self.halvings,
            purpose=SCOUT,
        )
        if not in_doubt(games):
            yield from stand_by(games, blend(games.x0[i], far, border), i)
        return (yield from self.compare(games, i, far, border))

    def find(self, games: Games, i: Tensor) -> Generator[Move, Answers, Tensor]:
        """Images [n,C,H,W] that were answered with a label that wins games `i` [n]; NaN where none was."""
        x = games.uniform(games.x0.shape[1:], i)
        if games.threat.targeted and games.resources.starts is not None:
            x = games.resources.starts[i].clone()
        there = x.isfinite().flatten(1).all(dim=1)
        fooled = torch.zeros_like(there)
        fooled[there] = yield from games.fools(x[there], i[there], SCOUT)
        x[~fooled] = torch.nan
        return x

    def compare(
        self, games: Games, i: Tensor, far: Tensor, border: Tensor
    ) -> Generator[Move, Answers, LabelBelief]:
        """Repeat points beside the boundary of games `i` [n], at `border` [n] of the way to `far`."""
        counts: tuple[list[Tensor], list[Tensor]] = ([], [])
        refused = False
        for place in PLACES:
            on = games.state.open[i]
            i, far, border = i[on], far[on], border[on]
            x = blend(games.x0[i], far, (border * (1 + place)).clamp(0, 1))
            changed = torch.stack([nudged(games, x, i) for _ in range(self.repeats)], dim=1)
            again = i.repeat_interleave(self.repeats)
            for wrong, rows in zip(
                counts, (x.repeat_interleave(self.repeats, dim=0), changed.flatten(0, 1)), strict=True
            ):
                on = games.state.open[again]
                answers = yield from games.ask(rows[on], again[on], SCOUT)
                wrong.append(diagnosis.won(games.wrong(answers), self.repeats))
                refused |= bool(answers.refused.any())
        same, beside = (torch.cat(of) for of in counts)
        if refused:
            return "refusals"
        if diagnosis.is_parity(same, beside, self.repeats):
            return "parity"
        if not bool(diagnosis.mixed(same, self.repeats).any()):
            return "plain"
        return "coin" if diagnosis.is_coin(same, self.repeats) else "noise"
