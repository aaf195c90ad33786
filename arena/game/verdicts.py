"""The Referee's own evaluations: three verdicts on the games' final images (docs/design.md, D3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from arena.game.board import Board
from arena.game.openings import Openings
from arena.game.oracle import Oracle
from arena.players.defender import Rows
from arena.records.reports import GameRows, Listener, MarkRows, NoteRows
from arena.rules.outcome import Floats, Ints, labels_of
from arena.rules.threat import Threat


class Judge:
    """Gives verdicts on the games' best images, at the marks and at the end, and reports them.

    An image is judged once for as long as it stands; only `again` depends on when it is asked. Where the
    oracle failed (`abandon`), images that were not judged yet are won by nobody: no answer is asked for.

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
        self.wrong = np.zeros((games, 2), dtype=np.int64)
        self.asked = np.zeros((games, 2), dtype=np.int64)
        self.base = np.zeros(games, dtype=bool)
        self.again = np.full(games, np.nan)
        self.rows = 0
        self._halves = np.array([votes - votes // 2, votes // 2])
        self._judged = np.full(games, -1, dtype=np.int64)
        self._again_at = np.full(games, -1, dtype=np.int64)
        self._moment = 0
        self._marked = np.full(games, -1, dtype=np.int64)
        self._silent = False

    def open(self, games: Ints) -> None:
        """Judge the clean images of games that begin at these places: the mark at 0."""
        self.again[games] = np.nan
        self.forget(games)
        self._marked[games] = -1
        self.mark(0, games, np.full(len(games), np.nan))

    def abandon(self) -> Ints:
        """Ask the oracle nothing any more, and let all games but those that were wrong from the beginning end
        in `error`; returns these."""
        ledger = self.board.ledger
        games = np.array([n for n, reason in enumerate(ledger.reason) if reason != "clean"], np.int64)
        ledger.close(games, "error")
        for game in games.tolist():
            ledger.reason[game] = "error"
        self._silent = True
        return games

    def forget(self, games: Ints) -> None:
        """The final images of `games` were replaced."""
        self._judged[games] = self._again_at[games] = -1

    def remembered(self) -> None:
        """Memories may have changed: whoever asks again may be answered otherwise."""
        self._moment += 1

    def mark(self, at: int, games: Ints, query_l2: Floats) -> None:
        """Judge the images that stand in `games` as those at query count `at`, and report them with the l2
        distances of the queries there."""
        self._judge(games)
        self.ask_again(games)
        self._marked[games] = at
        self._report(at, games, query_l2)

    def ask_again(self, games: Ints) -> None:
        """Have the clients of `games` ask for their best images once more, by memory as it stands.

        Called at marks, and where games have just closed. Nothing is asked where no defender remembers, nor
        for games that asked nothing yet.
        """
        if self._silent or not self.oracle.stateful:
            return
        asked = self.board.ledger.queries[games] > 0
        games = games[asked & (self._again_at[games] != self._moment)]
        for cut in range(0, len(games), self.max_rows):
            self._ask_again_piece(games[cut : cut + self.max_rows])
        self._again_at[games] = self._moment

    def sum_up(self, games: Ints) -> GameRows:
        """Judge the final images of ended `games`, report the marks they did not live to see, and sum up."""
        board, ledger = self.board, self.board.ledger
        self._judge(games)
        for at in [0, *self.marks]:
            late = games[self._marked[games] < at]
            self._report(at, late, ledger.last_l2[late])
        l2, linf = self._distances(games)
        place = board.place(games)
        target = torch.full_like(place, -1) if board.target is None else board.target[place]
        numbers = torch.stack([board.image[place], board.label[place], target]).cpu().numpy()
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
            wrong=self.wrong[games],
            asked=self.asked[games],
            again=self.again[games],
            base=self.base[games],
            hit_at=ledger.hit_at[games],
            accepted_at=ledger.accepted_at[games],
            l2=l2,
            linf=linf,
            final=board.best[place].cpu().numpy(),
        )

    def _report(self, at: int, games: Ints, query_l2: Floats) -> None:
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
                self.wrong[games],
                self.asked[games],
                self.again[games],
                self.base[games],
                l2,
                linf,
                query_l2,
            )
        )

    def _distances(self, games: Ints, at: int | None = None) -> tuple[Floats, Floats]:
        """l2 and linf of the final images: of hits, and of an attacker's choice where that wins a vote."""
        ledger = self.board.ledger
        lost = ledger.chosen[games] & (self.wrong[games].sum(axis=1) == 0)
        l2, linf = (np.where(lost, np.nan, d) for d in ledger.distances_of(games, at))
        return l2, linf

    def _judge(self, games: Ints) -> None:
        """Enter vote and base of the best images of `games` that were not judged yet."""
        turn = self.board.ledger.best_turn
        games = games[self._judged[games] != turn[games]]
        self._judged[games] = turn[games]
        inside = self.board.ledger.best_inside[games]
        if self._silent:
            inside = np.zeros_like(inside)
        lost, games = games[~inside], games[inside]
        self.base[lost], self.wrong[lost], self.asked[lost] = False, 0, 0
        size = max(1, self.max_rows // self.votes)
        for cut in range(0, len(games), size):
            self._judge_piece(games[cut : cut + size])

    def _judge_piece(self, games: Ints) -> None:
        board = self.board
        place = board.place(games)
        x = board.best[place]
        base = board.wins(self.oracle.base_labels(x), place)
        wrong = self._votes(x, place)
        host = torch.cat([base.unsqueeze(1).to(torch.int64), wrong], dim=1).cpu().numpy()
        self.base[games] = host[:, 0] > 0
        self.wrong[games], self.asked[games] = host[:, 1:], self._halves
        self.rows += len(games) * (1 + self.votes)

    def _votes(self, x: Tensor, place: Tensor) -> Tensor:
        """How many [n,2] of the fresh answers to `x` [n,C,H,W] win, by halves; withheld ones do not."""
        board, k = self.board, self.votes
        none = torch.zeros_like(place)
        # A new client's first query. Without memory the turn only chooses the draws.
        turn = none + 1 if self.oracle.stateful else board.place(board.ledger.best_turn)[place]
        rows = Rows(place, board.key[place], turn, none, none).repeat(k)
        response = self.oracle.fresh(x.repeat_interleave(k, 0), rows)
        wrong = board.wins(labels_of(response.scores), place.repeat_interleave(k)) & ~response.withheld
        wrong, first = wrong.view(-1, k), int(self._halves[0])
        return torch.stack([wrong[:, :first].sum(dim=1), wrong[:, first:].sum(dim=1)], dim=1)

    def _ask_again_piece(self, games: Ints) -> None:
        board, ledger = self.board, self.board.ledger
        place, last = board.place(games), ledger.last_account[games]
        turn, account, none = (
            board.place(ledger.queries[games] + 1),
            board.place(last),
            torch.zeros_like(place),
        )
        # The draws after those of the vote: no two answers of the Referee's share theirs.
        rows = Rows(place, board.key[place], turn, account, none, draw=self.votes)
        response = self.oracle.again(board.best[place], rows)
        wrong = board.wins(labels_of(response.scores), place) & ~response.withheld
        self.again[games] = wrong.cpu().numpy() & ledger.best_inside[games] & ~ledger.banned[games, last]
        self.rows += len(games)


def marks_of(at: Sequence[int], threat: Threat) -> list[int]:
    """The query counts to report that a game can reach, ascending, without 0."""
    return sorted({count for count in at if 0 < count <= threat.budget})


def end_unplayed(
    openings: Openings, threat: Threat, at: Sequence[int], said: str, listener: Listener
) -> None:
    """Report games of which none could begin, all with reason `error`.

    Args:
        said: why, for the log.
    """
    marks = marks_of(at, threat)
    board = Board(openings, threat, marks)
    judge = Judge(board, cast(Oracle, None), marks, 1, listener, 1)  # it is not asked after `abandon`
    games = judge.abandon()
    listener.notes(NoteRows("error", games, np.zeros_like(games), [said] * len(games)))
    listener.games(judge.sum_up(games))
