"""slope-square: Square Attack that finds out by a second query which way the loss shown is turned."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.attackers.adaptive.op_square import change, climbs
from agents.attackers.parts.parameters import check_parameters
from agents.attackers.parts.twins import plain
from agents.attackers.score.random_search import Doubt, Propose, freeze
from agents.attackers.score.square import Square
from arena.players import Answers, Asking, Games, Loss, Move, Needs, Play


@dataclass(frozen=True)
class SlopeSquare(Square):
    """Square Attack with a test of the slope, against losses that are shown reversed or folded.

    A step back from an image towards x0 nearly always raises the true loss. If the loss shown falls instead,
    it is reversed there. This is our attack; it works against AAA-linear, AAA-sine and undefended alike and
    knows nothing of the defense but a size of jumps, theta.

    Each game descends the loss shown, or climbs it as `op-square` does if it found it reversed at its start.
    After `patience` candidates in a row that are no improvement it asks for the slope again (the incumbent
    may lie beyond a fold by now), and of the next candidates that move the other way, `trials` at most, it
    asks for the slope as well: one at which the slope is the opposite lies beyond the fold, and is taken;
    from there the game goes on the other way.

    Attributes:
        loss: the margin for both goals.
        theta: the drop from which a climbing game takes a candidate, and from which a change is no small one,
            in units of the loss; AAA's tau: within a cell of AAA-linear or -sine nothing changes by more.
        step_back: the length of the step, relative to the perturbation; where the service rounds to 8 bits,
            it is dithered.
        patience: candidates in a row without improvement that a game bears.
        trials: candidates whose slope is asked for before the game goes back to patience.
    """

    loss: Loss | None = "margin"
    theta: float = 6.0
    step_back: float = 0.05
    patience: int = 10
    trials: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parameters(self, positive=("theta", "step_back"), counts=("patience", "trials"))
        if self.step_back > 1:
            raise ValueError(f"step_back must be at most 1; found {self.step_back}")

    @property
    def needs(self) -> Needs:
        return super().needs

    @property
    def twin(self) -> Square:
        return plain(self, Square)

    def descend(self, games: Games, x: Tensor, propose: Propose) -> Play:
        loss = self.loss_in(games)
        best = games.x0.new_full((len(games),), torch.inf)
        down = torch.ones(len(games), dtype=torch.bool, device=games.x0.device)
        streak, tried = (torch.zeros(len(games), dtype=torch.int64, device=games.x0.device) for _ in range(2))
        doubt = Doubt(games, loss)

        def ask_incumbents(purpose: str) -> Play:
            i = games.open
            answers = yield from games.ask(x[i], i, purpose)
            best[i] = torch.where(answers.answered, games.loss(answers, loss), best[i])
            yield from freeze(games, x, answers)
            yield from doubt.test(x, best, answers)

        def ask_slopes(at: Tensor, value: Tensor, i: Tensor) -> Generator[Move, Answers, Tensor]:
            """1 where the loss shown rises on the way back from `at` [n,C,H,W], -1 where it falls, [n]."""
            answers = yield from games.ask(self.back(games, at, i), i, "slope")
            return change(games.loss(answers, loss), value).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).sign()

        def turn(i: Tensor) -> Play:
            """Let games `i` go the way in which their incumbents' losses are shown."""
            slope = yield from ask_slopes(x[i], best[i], i)
            down[i] = torch.where(slope == 0, down[i], slope > 0)

        yield from ask_incumbents("start")
        if len(i := games.open):
            yield from turn(i)
        for t in itertools.count():
            if self.refresh_every and t and t % self.refresh_every == 0 and len(games.open):
                yield from ask_incumbents("refresh")
            i = games.open
            if len(due := i[(streak[i] >= self.patience) & (tried[i] == 0)]):
                yield from turn(due)
            if not len(i := games.open):
                return
            incumbent = x.index_select(0, i)
            candidate = propose(t, incumbent, i)
            answers = yield from games.ask(candidate, i, "search")
            new = games.loss(answers, loss)
            delta = change(new, best[i])
            accepted = torch.where(down[i], delta < 0, climbs(delta, self.theta)) | (
                best[i].isinf() & (new < torch.inf)
            )
            testing = (streak[i] >= self.patience) & ~accepted & (delta.abs() <= self.theta)
            rows = (testing & games.state.open[i]).nonzero().squeeze(1)
            if len(rows):
                slope = yield from ask_slopes(candidate[rows], new[rows], i[rows])
                beyond = rows[(slope != 0) & ((slope > 0) != down[i[rows]])]
                accepted[beyond] = True
                down[i[beyond]] ^= True
            tried[i] = torch.where(accepted, 0, tried[i] + testing)
            rested = tried[i] >= self.trials
            streak[i] = torch.where(accepted | rested, 0, streak[i] + ~delta.isnan())
            tried[i] = torch.where(rested, 0, tried[i])
            x[i] = torch.where(accepted.view(-1, 1, 1, 1), candidate, incumbent)
            best[i] = torch.where(accepted, new, best[i])
            yield from freeze(games, x, answers, accepted)
            yield from doubt.test(x, best, answers, accepted)

    def back(self, games: Games, x: Tensor, i: Tensor) -> Tensor:
        """A step from `x` [n,C,H,W] of games `i` [n] towards x0."""
        x0 = games.x0[i]
        back = x + self.step_back * (x0 - x)
        if games.threat.quantisation != "none":
            # Rounding alone would undo a step of less than half a level.
            dither = games.uniform(x.shape[1:], i)
            back = ((back * 255 + dither).floor() / 255).clamp_(0, 1)
        return games.project(back, i)
