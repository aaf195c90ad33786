"""race: repeat a query only as long as its mean looks better than the best so far."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from agents.attackers.parts.claims import REPEAT
from agents.attackers.parts.wrapping import AroundScores
from agents.parameters import check_parameters
from arena.players import Answers, Asking, Attacker, Games, Loss, Move, Play, Volley, relay
from arena.rules.outcome import labels_of


@dataclass(frozen=True)
class Race(AroundScores):
    """A wrapper that repeats what looks better, against noisy answers, around a search that keeps the best.

    Each row is asked once, and again as long as the mean of its losses is below the bar, M times in all. A
    row that falls behind is answered with the mean so far, which the search rejects: most candidates cost one
    query or two, where `eot` asks M of each. What is accepted has the mean of M answers, so that the bar is
    no lucky one. This is a race with the incumbent (Maron and Moore, "Hoeffding Races", NeurIPS 1993) without
    its bounds, which need the size of the noise.

    The bar is the lowest loss that the search was told of in the game, or what a query of the purpose
    "refresh" brought since then. Where answers are not noisy, the search goes as without the wrapper. Several
    rows of a game in one volley have one bar, that from before it: how volleys are cut then matters.

    Attributes:
        of: the inner attack: `square`, `random-search` and the like; it sees the whole budget.
        repeats: M.
        loss: the loss that the inner attack minimises.
    """

    of: Attacker
    repeats: int = 5
    loss: Loss = "margin"

    def __post_init__(self) -> None:
        check_parameters(self, counts=("repeats",))

    def play(self, games: Games) -> Play:
        bar = games.x0.new_full((len(games),), torch.inf)

        def answer(move: Move) -> Asking:
            if not isinstance(move, Volley) or move.purpose == REPEAT:
                return (yield move)
            game, account = move.game, move.account
            answers = yield from games.ask(move.x, game, move.purpose, account)
            rounds = Rounds(answers, self.repeats)
            if move.purpose == "refresh":
                bar[game] = torch.inf
            for turn in range(1, self.repeats):
                ahead = games.loss(rounds.answers(games.state), self.loss) < bar[game]
                rows = (ahead & games.state.open[game]).nonzero().squeeze(1)
                if not len(rows):
                    break
                of = None if account is None else account[rows]
                rounds.add(turn, rows, (yield from games.ask(move.x[rows], game[rows], move.purpose, of)))
            told = rounds.answers(games.state)
            bar.scatter_reduce_(0, game, games.loss(told, self.loss), "amin")
            return told

        yield from relay(self.of.play(games.with_budget(games.threat.budget)), answer)


class Rounds:
    """The answers to n rows, of which some were asked again, up to M times.

    Args:
        first: the answers to all rows.
        most: M.
    """

    def __init__(self, first: Answers, most: int) -> None:
        self.first, self.again = first, torch.zeros_like(first.answered)
        one = every_answer(first)
        # Always of M rounds: sums of other lengths might be added up in another order.
        self.scores = one.new_full((most, *one.shape), torch.nan)
        self.scores[0] = one

    def add(self, turn: int, rows: Tensor, answers: Answers) -> None:
        """Those of a later round `turn`, to `rows` [m]."""
        self.scores[turn, :, rows] = every_answer(answers)
        self.again[rows] |= answers.answered

    def answers(self, state: Answers) -> Answers:
        """The mean scores of each row and their label, with the standing of the games in `state`."""
        first, repeats = self.first, self.scores.flatten(0, 1)
        scores = repeats.nanmean(dim=0)
        return replace(
            state,
            game=first.game,
            label=torch.where(self.again, labels_of(scores), first.label),
            scores=scores,
            answered=first.answered,
            refused=first.refused,
            repeats=repeats,
        )


def every_answer(answers: Answers) -> Tensor:
    """The scores [M,n,K]; M is 1 unless a wrapper outside asked several times."""
    if answers.scores is None:
        raise ValueError('race compares losses; the feedback of this game is "label"')
    return answers.scores.unsqueeze(0) if answers.repeats is None else answers.repeats
