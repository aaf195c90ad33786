"""The Referee's own evaluations: three verdicts on the games' final images (DESIGN.md, D3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from arena.players import Response, Rows
from arena.records.reports import GameRows, MarkRows
from arena.rules.geometry import quantise
from arena.rules.outcome import Floats, Ints, labels_of, wins

if TYPE_CHECKING:
    from arena.game.referee import Referee


class Judge:
    """Gives verdicts on the games' best images, at the marks and at the end, and reports them.

    An image is judged once for as long as it stands, unless a defender's memory may have changed.

    Args:
        marks: query counts to report, ascending, without 0.
        votes: fresh answers per vote.
    """

    def __init__(self, referee: Referee, marks: list[int], votes: int) -> None:
        self.referee, self.marks, self.votes = referee, marks, votes
        games = len(referee.x0)
        self.vote = np.zeros(games)
        self.base = np.zeros(games, dtype=bool)
        self.rows = 0
        self._judged = np.full(games, -1, dtype=np.int64)
        self._marked = np.zeros(games, dtype=np.int64)

    def open(self, games: Ints) -> None:
        """Judge the clean images of newly dealt `games`: the mark at 0."""
        self._judged[games] = -1
        self._marked[games] = -1
        self.mark(0, games)

    def forget(self, games: Ints) -> None:
        """The final images of `games` were replaced."""
        self._judged[games] = -1

    def mark(self, at: int, games: Ints) -> None:
        """Judge the images that stand in `games` as those at query count `at`, and report."""
        self._judge(games)
        self._marked[games] = at
        self._report(at, games)

    def sum_up(self, games: Ints) -> GameRows:
        """Judge the final images of ended `games`, report the marks they did not live to see, and sum up."""
        referee, ledger = self.referee, self.referee.ledger
        self._judge(games)
        for at in self.marks:
            self._report(at, games[self._marked[games] < at])
        l2, linf = self._distances(games)
        place = torch.from_numpy(games).to(referee.x0.device)
        return GameRows(
            game=games.copy(),
            key=referee.key[place].cpu().numpy(),
            label=ledger.label[games],
            target=np.full(len(games), -1) if ledger.target is None else ledger.target[games],
            reason=[ledger.reason[game] or "error" for game in games.tolist()],
            queries=ledger.queries[games],
            insider_queries=ledger.insider[games],
            refused=ledger.refused[games],
            answered=ledger.answered(games),
            vote=self.vote[games],
            base=self.base[games],
            hit_at=ledger.hit_at[games],
            accepted_at=ledger.accepted_at[games],
            l2=l2,
            linf=linf,
            final=referee.best[place].cpu().numpy(),
        )

    def _report(self, at: int, games: Ints) -> None:
        if not len(games):
            return
        ledger = self.referee.ledger
        l2, linf = self._distances(games, at)
        self.referee.listener.marks(
            MarkRows(
                at,
                games,
                ledger.best_turn[games],
                ledger.answered(games, at),
                self.vote[games],
                self.base[games],
                l2,
                linf,
            )
        )

    def _distances(self, games: Ints, at: int | None = None) -> tuple[Floats, Floats]:
        """l2 and linf of the final images: of hits, and of an attacker's choice where that wins a vote."""
        ledger = self.referee.ledger
        lost = ledger.chosen[games] & (self.vote[games] == 0)
        l2, linf = (np.where(lost, np.nan, d) for d in ledger.distances_of(games, at))
        return l2, linf

    def _judge(self, games: Ints) -> None:
        """Enter vote and base of the best images of `games` that were not judged yet."""
        referee = self.referee
        turn = referee.ledger.best_turn[games]
        if not referee.oracle.stateful:
            games = games[self._judged[games] != turn]
        if not len(games):
            return
        size = max(1, referee.max_rows // self.votes)
        for cut in range(0, len(games), size):
            self._judge_piece(games[cut : cut + size])
        self._judged[games] = referee.ledger.best_turn[games]

    def _judge_piece(self, games: Ints) -> None:
        referee = self.referee
        place = torch.from_numpy(games).to(referee.x0.device)
        x = quantise(referee.best[place], referee.threat.quantisation)
        label = referee.label[place]
        target = None if referee.target is None else referee.target[place]
        base = referee.oracle.base_wrong(x, label, target)
        votes = self._votes(x, place, label, target)
        host = torch.stack([base.to(torch.int64), votes]).cpu().numpy()
        inside = referee.ledger.best_inside[games]
        self.base[games] = (host[0] > 0) & inside
        self.vote[games] = np.where(inside, host[1] / self.votes, 0)
        self.rows += len(games) * (1 + self.votes)

    def _votes(self, x: Tensor, place: Tensor, label: Tensor, target: Tensor | None) -> Tensor:
        """How many [n] of the fresh answers to `x` [n,C,H,W] win; refused and declined ones do not."""
        referee = self.referee
        turn = torch.from_numpy(referee.ledger.best_turn).to(place.device)[place]
        none = torch.zeros_like(place)
        rows = Rows(place, referee.key[place], turn, none, none).repeat(self.votes)
        k = self.votes
        response = referee.oracle.fresh(x.repeat_interleave(k, 0), rows)
        wrong = wins(
            labels_of(response.scores),
            label.repeat_interleave(k),
            None if target is None else target.repeat_interleave(k),
        )
        return (wrong & ~_withheld(response)).view(-1, k).sum(dim=1)


def _withheld(response: Response) -> Tensor:
    withheld = torch.zeros(len(response.scores), dtype=torch.bool, device=response.scores.device)
    for flag in (response.declined, response.refused, response.banned):
        if flag is not None:
            withheld = withheld | flag
    return withheld
