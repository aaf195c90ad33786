"""slope-square: Square Attack that finds out by a second query which way the loss shown is turned."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from agents.attackers.adaptive.op_square import change, climbs
from agents.attackers.parts.finite_differences import keep_hits
from agents.attackers.parts.twins import plain
from agents.attackers.score.random_search import Doubt, Propose, freeze
from agents.attackers.score.square import Square
from agents.parameters import check_parameters
from arena.players import Answers, Games, Loss, Move, Play

Slopes: TypeAlias = Generator[Move, Answers, Tensor]


@dataclass(frozen=True)
class SlopeSquare(Square):
    """Square Attack with a test of the slope, against losses that are shown reversed or folded.

    A step back from an image towards x0 nearly always raises the true loss. If the loss shown falls instead,
    it is reversed there. This is our attack; it works against AAA-linear, AAA-sine and undefended alike and
    knows nothing of the defense but a size of jumps, theta.

    Each game descends the loss shown, or climbs it, as `banded-op-square` does, if it found it reversed at
    its start. After `patience` candidates in a row that are no improvement it asks for the slope again (the
    incumbent may lie beyond a fold by now), and of the next candidates that move the other way, `trials` at
    most, it asks for the slope as well: one at which the slope is the opposite lies beyond the fold, and is
    taken; from there the game goes on the other way.

    A game whose true loss only falls never shows more than its lowest loss so far plus tau. One that does was
    wrong about the step back (for one start in eight a ResNet-20's loss rises): it begins again at its start,
    the other way.

    Where answers are facts every hit is taken, a step back too, whatever the rule says of its loss.

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
    def twin(self) -> Square:
        return plain(self, Square)

    def descend(self, games: Games, x: Tensor, propose: Propose) -> Play:
        loss, start = self.loss_in(games), x.clone()
        best = games.x0.new_full((len(games),), torch.inf)
        course, doubt = Course(best, self.theta, self.patience, self.trials), Doubt(games, loss)

        def ask_incumbents(purpose: str) -> Play:
            i = games.open
            answers = yield from games.ask(x[i], i, purpose)
            best[i] = torch.where(answers.answered, games.loss(answers, loss), best[i])
            yield from freeze(games, x, answers)
            yield from doubt.test(x, best, answers)

        def ask_slopes(at: Tensor, value: Tensor, i: Tensor) -> Slopes:
            """1 where the loss shown rises from `value` [n] at `at` [n,C,H,W] to a step back, -1 where it
            falls, 0 where it is not known, [n]."""
            back = self.back(games, at, i)
            answers = yield from games.ask(back, i, "slope")
            shown, hit = games.loss(answers, loss), games.wrong(answers)
            yield from keep_hits(games, back.unsqueeze(1), i, hit.unsqueeze(1), shown.unsqueeze(1))
            return change(shown, value).nan_to_num(0.0, 0.0, 0.0).sign()

        yield from ask_incumbents("start")
        i, first = games.open, best.clone()
        if len(i):
            course.turn(i, (yield from ask_slopes(x[i], best[i], i)))
        for t in itertools.count():
            if self.refresh_every and t and t % self.refresh_every == 0 and len(games.open):
                yield from ask_incumbents("refresh")
            if len(due := course.due(games.open)):
                course.turn(due, (yield from ask_slopes(x[due], best[due], due)))
            if not len(i := games.open):
                return
            incumbent = x.index_select(0, i)
            candidate = propose(t, incumbent, i)
            answers = yield from games.ask(candidate, i, "search")
            new = games.loss(answers, loss)
            accepted, testing = course.judge(change(new, best[i]), best[i].isinf(), i)
            hit = games.wrong(answers) & games.answers_are_facts
            accepted, testing = accepted | hit, testing & ~hit
            rows = (testing & games.state.open[i]).nonzero().squeeze(1)
            if len(rows):
                slope = yield from ask_slopes(candidate[rows], new[rows], i[rows])
                accepted[rows] = course.turned(i[rows], slope)
            course.count(i, accepted, testing, new)
            x[i] = torch.where(accepted.view(-1, 1, 1, 1), candidate, incumbent)
            best[i] = torch.where(accepted, new, best[i])
            yield from freeze(games, x, answers, accepted)
            yield from doubt.test(x, best, answers, accepted)
            wrong = course.reverse(i, best[i], first)
            x[wrong], best[wrong] = start[wrong], first[wrong]

    def back(self, games: Games, x: Tensor, i: Tensor) -> Tensor:
        """A step from `x` [n,C,H,W] of games `i` [n] towards x0."""
        x0 = games.x0[i]
        back = x + self.step_back * (x0 - x)
        if games.threat.quantisation != "none":
            # Rounding alone would undo a step of less than half a level.
            dither = games.uniform(x.shape[1:], i)
            back = ((back * 255 + dither).floor() / 255).clamp_(0, 1)
        return games.project(back, i)


class Course:
    """Which way G games go, and how long they have not got on.

    Attributes:
        down: [G] bool, the game descends the loss shown.
        sense: [G], 1 where a step back is taken to raise the true loss, -1 where to lower it.
        streak, tried: [G], candidates in a row without improvement, and those whose slopes were asked for.
        lowest: [G], the lowest loss of an incumbent.
    """

    def __init__(self, best: Tensor, theta: float, patience: int, trials: int) -> None:
        self.theta, self.patience, self.trials = theta, patience, trials
        self.down = torch.ones_like(best, dtype=torch.bool)
        self.sense, self.lowest = torch.ones_like(best), best.clone()
        self.streak, self.tried = (torch.zeros_like(self.down, dtype=torch.int64) for _ in range(2))

    def due(self, i: Tensor) -> Tensor:
        """Those of games `i` [n] that are to ask for the slope at their incumbents: patience has ended."""
        return i[(self.streak[i] == self.patience) & (self.tried[i] == 0)]

    def turn(self, i: Tensor, slope: Tensor) -> None:
        """Go the way in which the losses of the incumbents of games `i` [n] are shown, by slopes [n]."""
        self.down[i] = torch.where(slope == 0, self.down[i], slope * self.sense[i] > 0)

    def judge(self, delta: Tensor, unknown: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
        """Whether candidates that change the losses by `delta` [n] are accepted, and whether their slopes are
        to be asked for, [n] bool each; `unknown` [n] bool: the incumbent's loss is not known."""
        climbing = climbs(delta, self.theta) & (delta <= self.theta)
        accepted = torch.where(self.down[i], delta < 0, climbing) | (unknown & ~delta.isnan())
        stuck = (self.streak[i] >= self.patience) & ~accepted
        return accepted, stuck & (delta != 0) & (delta.abs() <= self.theta)

    def turned(self, i: Tensor, slope: Tensor) -> Tensor:
        """[n] bool: the slopes [n] at candidates of games `i` [n] are the opposite; these games turn."""
        beyond = (slope != 0) & ((slope * self.sense[i] > 0) != self.down[i])
        self.down[i] ^= beyond
        return beyond

    def count(self, i: Tensor, accepted: Tensor, testing: Tensor, new: Tensor) -> None:
        """Note what became of candidates with losses `new` [n] of games `i` [n]."""
        tried = torch.where(accepted, 0, self.tried[i] + testing)
        done = accepted | (tried >= self.trials)
        self.streak[i] = torch.where(done, 0, self.streak[i] + (new < torch.inf))
        self.tried[i] = torch.where(done, 0, tried)
        self.lowest[i] = torch.where(accepted, self.lowest[i].minimum(new), self.lowest[i])

    def reverse(self, i: Tensor, best: Tensor, first: Tensor) -> Tensor:
        """Those of games `i` [n] whose losses `best` [n] have risen as no falling true loss is shown.

        Their sense and way are reversed, and they begin anew from `first` [G].
        """
        wrong = i[best > self.lowest[i] + self.theta]
        self.sense[wrong] *= -1
        self.down[wrong] ^= True
        self.lowest[wrong] = first[wrong]
        self.streak[wrong] = self.tried[wrong] = 0
        return wrong
