"""The scout: finds out what answers its games, and plays the attacker that suits it."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from agents.attackers.adaptive.slope_square import SlopeSquare
from agents.attackers.adaptive.unfold import Unfold
from agents.attackers.decision.rays import RayS
from agents.attackers.parts import diagnosis
from agents.attackers.parts.claims import in_doubt, stand_by
from agents.attackers.parts.soundings import along, nudged, reach, stripes
from agents.attackers.parts.twins import briefly
from agents.attackers.score.square import Square
from arena.players import Answers, Attacker, Games, Loss, Move, Needs, Play, Threat

SCOUT = "scout"
"""The purpose of the scout's own queries."""
STEPS = 6
"""Into how many steps a line is cut. With x0, a repeat and two more queries that makes `QUERIES`."""
QUERIES = STEPS + 4
"""What scouting costs in each game: a tenth of a budget of 100, and less of larger ones."""

Belief: TypeAlias = Literal["plain", "little-noise", "noise", "jumps", "waves", "coin", "parity", "refusals"]

PLAYS: Mapping[Belief, tuple[Attacker, ...]] = {
    "plain": (Square(),),
    "little-noise": (Square(),),
    "noise": (Square(p=0.3, refresh_every=10),),
    "jumps": (Unfold(of=Square()),),
    "waves": (SlopeSquare(),),
    "coin": (Square(p=0.3),),
    "parity": (Square(),),
    "refusals": (Square(),),
}
"""Which attacker is played against what is believed: the first that can play under the threat. Measured on
digits and ResNet-20."""
SMALL = 1000
"""Images of no more values are small: RayS, whose blocks number as the values do, is quick on them."""
SMALL_PLAYS: Mapping[Belief, Attacker] = {"noise": RayS(), "waves": RayS(), "coin": RayS()}
"""What is rather played on small images, if the threat allows it: labels alone, which noise moves
least and no fold."""


@dataclass(frozen=True)
class Found:
    """What is believed, and the period of the folds if there are some (NaN: not known)."""

    belief: Belief
    period: float = math.nan


def suited(found: Found, threat: Threat, values: int) -> Attacker:
    """The attacker that is played under `threat` on images of so many values."""
    belief = found.belief
    small = [SMALL_PLAYS[belief]] if belief in SMALL_PLAYS and values <= SMALL else []
    able = (attacker for attacker in (*small, *PLAYS[belief]) if attacker.needs.unmet(threat) is None)
    attacker = next(able)
    if isinstance(attacker, Unfold) and math.isfinite(found.period):
        return replace(attacker, tau=found.period)
    return attacker


@dataclass(frozen=True, eq=False)
class Sounding:
    """What n games, still open, have heard along their lines.

    Attributes:
        game: [n].
        x: [n,STEPS+1,C,H,W], the line; the first is x0.
        loss: [n,STEPS+1], and `again` [n], x0's a second time; +inf where no answer came.
        scores: [n,STEPS+1,K].
        refused: [n] bool: x0 was answered, and refused when it came again.
    """

    game: Tensor
    x: Tensor
    loss: Tensor
    again: Tensor
    scores: Tensor
    refused: Tensor


@dataclass(frozen=True)
class Scout(Attacker):
    """The scout is ours: an attacker that is not told what defends.

    In each game it asks for x0 and six points of a line through it, for x0 again, and for two points more:
    where the lines look jagged, within the largest step, otherwise again the point nearest the boundary, as
    it is and with a change too small to matter. The answers of all games of the shard together decide what is
    believed (`parts.diagnosis`). Each game leaves that in the log under the key "believes", and goes on with
    the attacker that `PLAYS` names for it and the budget that is left. The scout's hits count as all do.

    `Games.answers_are_facts` tells random and stateful defenders from the others for nothing. It is not used
    for the diagnosis: `trust_answers` may hide it, and little noise needs no other attacker than none.

    Attributes:
        loss: what is looked at along the lines.
        noisy: the noise of one answer, relative to the loss of the clean image (medians over the games), from
            which on it is fought: a search in a hundred steps has to see hundredths of that loss.
    """

    loss: Loss = "margin"
    noisy: float = 0.01

    needs = Needs(feedback="scores", objectives=("first", "submit"))
    across_games: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.noisy > 0:
            raise ValueError(f"noisy must be positive; found {self.noisy}")

    @property
    def twin(self) -> Attacker:
        return PLAYS["plain"][0]

    def play(self, games: Games) -> Play:
        if not len(games.open):
            return
        found = yield from self.scout(games)
        if len(i := games.open):
            attacker = suited(found, games.threat, games.x0[0].numel())
            yield from games.note("believes", found.belief, i)
            yield from games.note("plays", briefly(attacker), i)
            yield from attacker.play(games.with_budget(games.threat.budget - QUERIES))

    def scout(self, games: Games) -> Generator[Move, Answers, Found]:
        """Spend `QUERIES` of each open game, and say what is believed."""
        heard = yield from self.sound(games)
        sd = diagnosis.standard_deviation(heard.loss[:, 0], heard.again)
        jagged = diagnosis.folded(heard.loss, sd)
        noise = sd / max(diagnosis.median(heard.loss[:, 0].abs()), 1e-12)
        if len(i := heard.game):
            yield from games.note("noise", noise, i)
            yield from games.note("jagged", f"{jagged.count} of {jagged.of} lines", i)
        if jagged.rejects:
            return (yield from self.look_closer(games, heard))
        coin = yield from self.ask_again(games, heard)
        if bool(heard.refused.any()):
            return Found("refusals")
        if sd == 0:
            return Found(coin or "plain")
        return Found("noise" if noise > self.noisy else "little-noise")

    def sound(self, games: Games) -> Generator[Move, Answers, Sounding]:
        """Ask for a line through each x0, and for x0 again."""
        i = games.open
        n, direction = len(i), stripes(games, i)
        length = torch.linspace(0, reach(games), STEPS + 1, device=games.x0.device)
        line = along(games, direction, i, length.expand(n, -1)).view(n, STEPS + 1, *games.x0.shape[1:])
        x = torch.cat([line, games.x0[i].unsqueeze(1)], dim=1)
        answers = yield from games.ask(x.flatten(0, 1), i.repeat_interleave(STEPS + 2), SCOUT)
        loss, refused = (of.view(n, STEPS + 2) for of in (games.loss(answers, self.loss), answers.refused))
        assert answers.scores is not None
        scores = answers.scores.view(n, STEPS + 2, games.classes)
        yield from self.hand_in(games, line, games.wrong(answers).view(n, STEPS + 2)[:, :-1], i)
        on = games.state.open[i].nonzero().squeeze(1)
        again = refused[:, -1] & ~refused[:, 0]
        return Sounding(i[on], line[on], loss[on, :-1], loss[on, -1], scores[on, :-1], again[on])

    def hand_in(self, games: Games, x: Tensor, wrong: Tensor, i: Tensor) -> Play:
        """Hand in the nearest of images `x` [n,k,C,H,W] of games `i` [n] that was answered wrong [n,k], if
        that is a fact."""
        found = (wrong.any(dim=1) & games.state.open[i]).nonzero().squeeze(1)
        if not in_doubt(games) and games.threat.objective != "first":
            yield from stand_by(games, x[found, wrong[found].long().argmax(dim=1)], i[found])

    def look_closer(self, games: Games, heard: Sounding) -> Generator[Move, Answers, Found]:
        """Cut the largest step of each line into three: does the loss jump there?"""
        n, i = len(heard.game), heard.game
        row, step = torch.arange(n, device=i.device), diagnosis.largest_step(heard.loss)
        near, far = heard.x[row, step], heard.x[row, step + 1]
        inner = torch.stack([near + (far - near) * (k / 3) for k in (1, 2)], dim=1)
        answers = yield from games.ask(inner.flatten(0, 1), i.repeat_interleave(2), SCOUT)
        between = games.loss(answers, self.loss).view(n, 2)
        yield from self.hand_in(games, inner, games.wrong(answers).view(n, 2), i)
        ends = [heard.loss[row, step + k].unsqueeze(1) for k in (0, 1)]
        loss = torch.cat([ends[0], between, ends[1]], dim=1)
        jumps = diagnosis.jumps(loss)
        period = diagnosis.period_of_jumps(loss) if jumps else diagnosis.period_of_waves(heard.loss)
        if len(on := i[games.state.open[i]]) and math.isfinite(period):
            yield from games.note("period", period, on)
        return Found("jumps" if jumps else "waves", period)

    def ask_again(self, games: Games, heard: Sounding) -> Generator[Move, Answers, Belief | None]:
        """Ask again for the point of each line with the answer nearest to the boundary, as it is and nudged:
        has a coin, or the image itself, exchanged two scores?"""
        n, i = len(heard.game), heard.game
        row, place = torch.arange(n, device=i.device), heard.loss.abs().argmin(dim=1)
        x = heard.x[row, place]
        both = torch.stack([x, nudged(games, x, i)], dim=1)
        answers = yield from games.ask(both.flatten(0, 1), i.repeat_interleave(2), SCOUT)
        yield from self.hand_in(games, both, games.wrong(answers).view(n, 2), i)
        assert answers.scores is not None
        before, (same, other) = (
            heard.scores[row, place],
            answers.scores.view(n, 2, games.classes).unbind(dim=1),
        )
        if bool(diagnosis.swapped(before, same).any()):
            return "coin"
        return "parity" if bool(diagnosis.swapped(before, other).any()) else None
