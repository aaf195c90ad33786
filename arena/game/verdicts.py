"""The Referee's own evaluations: three verdicts on the games' final images (docs/design.md, D3)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from arena.game.board import Board
from arena.game.oracle import Oracle
from arena.players.defender import Rows
from arena.records.reports import GameRows, Listener, MarkRows
from arena.rules.geometry import quantise
from arena.rules.outcome import Floats, Ints, labels_of


class Judge:
    """Gives verdicts on the games' best images, at the marks and at the end, and reports them.

    An image is judged once for as long as it stands, unless a defender's memory may have changed.

    Args:
        marks: query counts to report, ascending, without 0.
        votes: fresh answers per vote.
        max_rows: the most rows of one evaluation.
    """

    def __init__(
        self,
        board: Board,
        oracle: Oracle,
        marks: list[int],
        votes: int,
        listener: Listener,
        max_rows: int,
    ) -> None:
        self.board, self.oracle, self.listener = board, oracle, listener
        self.marks, self.votes, self.max_rows = marks, votes, max_rows
        games = len(board)
        self.vote = np.zeros(games)
        self.base = np.zeros(games, dtype=bool)
        self.rows = 0
        self._judged = np.full(games, -1, dtype=np.int64)
        self._marked = np.zeros(games, dtype=np.int64)

    def open(self, games: Ints) -> None:
        """Judge the clean images of games that begin at these places: the mark at 0."""
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
        board, ledger = self.board, self.board.ledger
        self._judge(games)
        for at in self.marks:
            self._report(at, games[self._marked[games] < at])
        l2, linf = self._distances(games)
        place = board.place(games)
        target = torch.full_like(place, -1) if board.target is None else board.target[place]
        numbers = torch.stack([board.key[place], board.label[place], target]).cpu().numpy()
        return GameRows(
            game=games.copy(),
            key=numbers[0],
            label=numbers[1],
            target=numbers[2],
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
            final=board.best[place].cpu().numpy(),
        )

    def _report(self, at: int, games: Ints) -> None:
        if not len(games):
            return
        ledger = self.board.ledger
        l2, linf = self._distances(games, at)
        self.listener.marks(
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
        ledger = self.board.ledger
        lost = ledger.chosen[games] & (self.vote[games] == 0)
        l2, linf = (np.where(lost, np.nan, d) for d in ledger.distances_of(games, at))
        return l2, linf

    def _judge(self, games: Ints) -> None:
        """Enter vote and base of the best images of `games` that were not judged yet."""
        turn = self.board.ledger.best_turn
        if not self.oracle.stateful:
            games = games[self._judged[games] != turn[games]]
        if not len(games):
            return
        size = max(1, self.max_rows // self.votes)
        for cut in range(0, len(games), size):
            self._judge_piece(games[cut : cut + size])
        self._judged[games] = turn[games]

    def _judge_piece(self, games: Ints) -> None:
        board = self.board
        place = board.place(games)
        x = quantise(board.best[place], board.threat.quantisation)
        base = board.wins(self.oracle.base_labels(x), place)
        host = torch.stack([base.to(torch.int64), self._votes(x, place)]).cpu().numpy()
        inside = board.ledger.best_inside[games]
        self.base[games] = (host[0] > 0) & inside
        self.vote[games] = np.where(inside, host[1] / self.votes, 0)
        self.rows += len(games) * (1 + self.votes)

    def _votes(self, x: Tensor, place: Tensor) -> Tensor:
        """How many [n] of the fresh answers to `x` [n,C,H,W] win; refused and declined ones do not."""
        board, k = self.board, self.votes
        turn, none = board.place(board.ledger.best_turn)[place], torch.zeros_like(place)
        rows = Rows(place, board.key[place], turn, none, none).repeat(k)
        response = self.oracle.fresh(x.repeat_interleave(k, 0), rows)
        wrong = board.wins(labels_of(response.scores), place.repeat_interleave(k))
        return (wrong & ~response.withheld).view(-1, k).sum(dim=1)
