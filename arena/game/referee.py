"""The only gate between an attacker and the defended classifier (docs/design.md, D2 and D3)."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arena.game.blame import DefenderError
from arena.game.board import Board
from arena.game.checks import Checks, Remark
from arena.game.driver import Host
from arena.game.ledger import RowScalars, Ruling
from arena.game.limits import overtime
from arena.game.openings import Openings
from arena.game.oracle import Oracle, respond_to
from arena.game.scalars import Found, row_scalars
from arena.game.verdicts import Judge, marks_of
from arena.game.waves import Queue, Wave, rank_within
from arena.players.defender import Rows
from arena.players.response import Response
from arena.players.seat import Games, Resources
from arena.records.reports import GameRows, Listener, NoteRows, QueryRows, SilentListener
from arena.rules.feedback import shown
from arena.rules.geometry import distances, quantise
from arena.rules.limits import USUAL, Limits
from arena.rules.losses import attack_loss
from arena.rules.moves import Answers, Claim, Consult, Resign, Submit, Volley, VolleyError
from arena.rules.outcome import Bools, Ints, Reason, labels_of
from arena.rules.threat import Threat

LONGEST_VOLLEY, VOLLEY_PIXELS = 4096, 2**27
"""A volley is no longer than this, nor are its images larger, all together (half a GiB of float32)."""


def longest_volley(shape: Sequence[int]) -> int:
    """The longest volley of images of `shape` [C,H,W]: 4096 rows of 3 x 32 x 32, 891 of 3 x 224 x 224."""
    return max(1, min(LONGEST_VOLLEY, VOLLEY_PIXELS // math.prod(shape)))


class Referee(Host):
    """Checks moves, charges budgets, answers, keeps the best, gives verdicts, and reports to a listener.

    A volley is answered in two halves, so that whoever holds the defender may be elsewhere: `receive` gives
    the rows to respond to, `release` takes the response; `ask` does both with the oracle.

    Args:
        oracle: the defended classifier.
        openings: the games; those that the hardened classifier gets wrong end at once with reason `clean`.
        threat: the rules.
        at: query counts to report verdicts at, besides 0 and the end.
        votes: fresh answers per vote of a random defender; a deterministic one is asked once.
        listener: hears all that happens.
        max_rows: the longest volley allowed; None: `longest_volley`.
        limits: of what may be noted, and how long an answer may take.
        monitored: whether the hardened classifier is asked, too, at every row that is answered, for the
            listener alone (`QueryRows.margin_base`): nothing that is played depends on it.

    Raises:
        DefenderError: if a defender fails, here and wherever the oracle is asked.
    """

    def __init__(
        self,
        oracle: Oracle,
        openings: Openings,
        threat: Threat,
        *,
        at: Sequence[int] = (),
        votes: int = 25,
        listener: Listener | None = None,
        max_rows: int | None = None,
        limits: Limits = USUAL,
        monitored: bool = False,
    ) -> None:
        self.oracle, self.threat, self.listener = oracle, threat, listener or SilentListener()
        self.limits, self._hears_images = limits, listener is not None
        self.monitored = monitored
        self.max_rows = max_rows or longest_volley(openings.x0.shape[1:])
        marks = marks_of(at, threat)
        self.board = Board(openings, threat, marks)
        self.in_turns = oracle.stateful or threat.accounts > 1
        self.checks = Checks(self.board.x0, threat.accounts, self.max_rows)
        votes = votes if oracle.random else 1
        self.judge = Judge(self.board, oracle, marks, votes, self.listener, self.max_rows)
        self._open(np.arange(len(openings)))

    @property
    def games(self) -> int:
        return len(self.board)

    @property
    def open(self) -> Bools:
        return self.board.ledger.is_open

    def redeal(self, games: Ints, openings: Openings) -> None:
        """Begin new games in the places `games` of finished ones."""
        self.board.put(games, openings)
        self.oracle.forget(self.board.place(games))
        self._open(games)

    def seat(
        self, *, seed: int = 0, defense: dict[str, Any] | None = None, resources: Resources | None = None
    ) -> Games:
        """An attacker's seat at these games."""
        board = self.board
        return Games(
            board.x0.clone(),
            board.label.clone(),
            self.threat.model_copy(deep=True),
            classes=self.oracle.classes,
            state=self.state(),
            target=None if board.target is None else board.target.clone(),
            key=board.key.clone(),
            seed=seed,
            max_rows=self.max_rows,
            answers_are_facts=self.oracle.answers_are_facts or self.threat.trust_answers,
            defense=copy.deepcopy(defense) if self.threat.knowledge != "none" else None,
            resources=None if resources is None else resources.copy(),
        )

    # Volleys

    def ask(self, volley: Volley) -> Answers:
        """Answer a volley by the oracle.

        Raises:
            VolleyError: if it is malformed; nothing is charged then.
        """
        pending = self.receive(volley)
        while isinstance(pending, Wave):
            pending = self.release(pending, self._respond(pending))
        return pending

    def _respond(self, wave: Wave) -> Response:
        began = time.monotonic()
        if not self.oracle.paid:
            response = self.oracle.respond(wave.x, wave.rows)
        else:
            response = respond_to(self.oracle, wave.x, wave.rows, self._chargeable(wave))
        if (late := overtime(self.limits, "the answer to a volley", time.monotonic() - began)) is not None:
            raise DefenderError(late)
        return response

    def receive(self, volley: Volley) -> Wave | Answers:
        """Check a volley, and say what is to be responded to first.

        All rows at once; in waves of at most one row a game where memory has to be read and written in order,
        or where an account may be closed on the way: then answers at once where no row is of an open game.

        Raises:
            VolleyError: if the volley is malformed.
        """
        volley, flaws = self.checks.form(volley), None
        x, game, account = volley.x, volley.game, volley.account
        if self.board.on_host or self.in_turns:
            self.checks.values(x, game, account)
        else:
            flaws = self.checks.flaws(x, game, account)
            # Until they are read with the answers, indices that are out of range must hurt nothing.
            game = game.clamp(0, self.games - 1)
        account = torch.zeros_like(game) if account is None else account
        self.board.ledger.begin_volley()
        rank = rank_within(game)
        turn = self.board.asked(game).add_(rank).add_(1)
        place = torch.arange(len(game), device=game.device)
        rows = Rows(game, self.board.key.index_select(0, game), turn, account, place)
        whole = Wave(quantise(x, self.threat.quantisation), rows, rank, volley.purpose, flaws)
        return self._next(Queue.of(whole)) if self.in_turns else whole

    def release(self, wave: Wave, response: Response) -> Wave | Answers:
        """Charge a wave and enter what was responded; the next wave, or the answers where it was the last."""
        scores = response.scores.detach()
        label = labels_of(scores)
        if (declined := response.given("declined")) is not None:
            label = torch.where(declined, -1, label)
        scalars = self._scalars(wave, response, scores, label)
        was_open = self.open.copy() if self.oracle.stateful else None
        ruling = self.board.ledger.enter(scalars)
        self.granted = int(np.count_nonzero(ruling.kept))
        if self.oracle.stateful:
            self.oracle.commit(self.board.place(ruling.kept))
            self.judge.remembered()
        self._settle(wave, ruling)
        if was_open is not None:
            # Before a later wave is remembered: another game's may be of the same account or service.
            self.judge.ask_again(np.flatnonzero(was_open & ~self.open))
        self._report(wave.purpose, scalars, ruling)
        answers = self._answers(wave, scores, label, ruling)
        if (queue := wave.queue) is None:
            return answers
        queue.answers.append(answers)
        queue.granted += self.granted
        return self._next(queue)

    def _next(self, queue: Queue) -> Wave | Answers:
        if (wave := queue.next(self.open)) is not None:
            return wave
        self.granted = queue.granted
        scores = None
        if self.threat.feedback != "label":
            scores = queue.whole.x.new_full((len(queue.game), self.oracle.classes), torch.nan)
        return queue.assemble(self.state(), scores)

    def _settle(self, wave: Wave, ruling: Ruling) -> None:
        """Keep the images that became the bests, and judge them at the marks that were passed."""
        board = self.board
        for segment in ruling.segments:
            board.ledger.settle(segment)
            if len(segment.rows):
                board.best[board.place(segment.game)] = wave.x[board.place(segment.rows)]
            if segment.mark is not None:
                self.judge.mark(segment.mark, segment.due, segment.due_l2)

    def _scalars(self, wave: Wave, response: Response, scores: Tensor, label: Tensor) -> RowScalars:
        targeted = self.board.target is not None
        goal = self.board.goal.index_select(0, wave.rows.game)
        margin = attack_loss(scores, goal, "margin", targeted=targeted, logits=True)
        base = None
        if self.monitored:
            # Where nothing defends, what was answered is what the monitor would be told.
            own = scores if self.oracle.bare else self._base_scores(wave)
            base = attack_loss(own, goal, "margin", targeted=targeted, logits=True)
        found = Found(label, margin, base)
        return row_scalars(self.board, self.checks, wave, response, found, digested=self._hears_images)

    def _base_scores(self, wave: Wave) -> Tensor:
        """[n,K] what the hardened classifier alone says of a wave; NaN where a paid one is not asked."""
        if not self.oracle.paid or bool((mine := self._chargeable(wave)).all()):
            return self.oracle.base_scores(wave.x)
        scores = wave.x.new_full((len(wave.x), self.oracle.classes), torch.nan)
        if bool(mine.any()):
            scores[mine] = self.oracle.base_scores(wave.x[mine])
        return scores

    def _chargeable(self, wave: Wave) -> Tensor:
        """[n] the rows of open games within their budgets."""
        return self.board.place(self.open)[wave.rows.game] & (wave.rows.turn <= self.threat.budget)

    def _report(self, purpose: str, c: RowScalars, ruling: Ruling) -> None:
        kept = slice(None) if self.granted == len(c.game) else ruling.kept
        self.listener.queries(
            QueryRows(
                purpose,
                c.game[kept],
                ruling.turn[kept],
                c.account[kept],
                c.label[kept],
                ruling.refused[kept],
                c.flagged[kept],
                c.margin[kept],
                c.l2[kept],
                c.linf[kept],
                ruling.hit[kept],
                ruling.outside[kept],
                ruling.better[kept],
                None if c.digest is None else c.digest[kept],
                None if c.margin_base is None else c.margin_base[kept],
            )
        )

    def _answers(self, wave: Wave, scores: Tensor, label: Tensor, ruling: Ruling) -> Answers:
        game = wave.rows.game
        answered_all = self.granted == len(game) and not ruling.refused.any()
        if answered_all:
            answered = torch.ones_like(game, dtype=torch.bool)
            refused = torch.zeros_like(answered)
        else:
            flags = np.stack([ruling.kept & ~ruling.refused, ruling.kept & ruling.refused])
            answered, refused = self.board.place(flags).unbind()
            label = torch.where(answered, label, -1)
        seen = shown(scores, self.threat.feedback, self.threat.top_k)
        if seen is not None and not (answered_all and ruling.labelled):
            seen = torch.where((label >= 0).unsqueeze(1), seen, torch.nan)
        return self.board.standing(game, label, seen, answered, refused)

    # Other moves

    def submit(self, move: Submit) -> None:
        """End games with the images handed in."""
        games = self._stand_by(move)
        self.judge.forget(games)
        self._close(games, "submitted")

    def claim(self, move: Claim) -> None:
        """Let games be judged, from now on, by the images that the attacker stands by."""
        if not self.oracle.answers_are_facts and self.threat.objective != "first":
            self.judge.forget(self._stand_by(move))

    def _stand_by(self, move: Submit | Claim) -> Ints:
        """Let the attacker's choice take the place of the best images; returns the games that were open."""
        board, x = self.board, quantise(move.x, self.threat.quantisation)
        l2, linf = (d.double().cpu().numpy() for d in distances(x, board.x0[move.game]))
        games = move.game.cpu().numpy()
        was_open = board.place(self.open[games])
        board.best[move.game[was_open]] = x[was_open]
        return board.ledger.choose(games, l2, linf)

    def resign(self, move: Resign) -> None:
        """End games without a final image of the attacker's choice."""
        self._close(move.game.cpu().numpy(), move.reason)

    def note(self, remark: Remark) -> None:
        """Pass a remark on to the listener, within the quota of each game; that it is met is noted once."""
        games, ledger = remark.games, self.board.ledger
        if remark.key == "accepted":
            ledger.accept(games)
        most = self.limits.notes
        count = ledger.notes[games] + rank_within(torch.from_numpy(games)).numpy()
        np.add.at(ledger.notes, games, 1)
        values: list[Any] = [v for v, n in zip(remark.values, count.tolist(), strict=True) if n < most]
        kept, met = games[count < most], games[count == most]
        self.listener.notes(NoteRows(remark.key, kept, ledger.queries[kept], values))
        if len(met):
            self.remark("quota", met, f"no more notes are kept: a game may leave {most:,} (limits.notes)")

    def remark(self, key: str, games: Ints, said: str) -> None:
        """Note something about `games` that is not the attacker's to say."""
        self.listener.notes(NoteRows(key, games, self.board.ledger.queries[games], [said] * len(games)))

    def consult(self, move: Consult) -> Answers:
        """Serve an insider (docs/design.md, D5): counted for each game, not charged."""
        granted = self.threat.knowledge
        if granted != "weights" and (move.what == "gradient" or granted != "detector"):
            raise VolleyError(f'knowledge "{granted}" does not allow to consult the {move.what}')
        board, game, x = self.board, move.game, move.x
        loss, targeted = None, board.target is not None
        try:
            if move.what == "gradient":
                insight, loss = self.oracle.gradient(x, board.goal[game], move.loss, targeted=targeted)
            else:
                insight = self.oracle.detector(x)
        except NotImplementedError as error:
            raise VolleyError(str(error)) from error
        board.ledger.insider += np.bincount(game.cpu().numpy(), minlength=self.games)
        return replace(self.state(), insight=insight, loss=loss)

    # How the games stand

    def state(self) -> Answers:
        """How the games stand, without rows."""
        return self.board.state()

    def finish(self, reason: Reason = "resigned") -> GameRows:
        """End all games that are still open, give the last verdicts, and report how all ended."""
        return self.end(np.arange(self.games), reason)

    def abandon(self, said: str) -> GameRows:
        """End all games, those that were over too, with reason `error`: the oracle cannot be asked any more.

        Args:
            said: why, for the log.
        """
        games = self.judge.abandon()
        self.remark("error", games, said)
        rows = self.judge.sum_up(np.arange(self.games))
        self.listener.games(rows)
        return rows

    def end(self, games: Ints, reason: Reason = "resigned") -> GameRows:
        """End those of `games` that are still open, give the last verdicts, and report how `games` ended."""
        self._close(games, reason)
        rows = self.judge.sum_up(games)
        self.listener.games(rows)
        return rows

    def _close(self, games: Ints, reason: Reason) -> None:
        self.judge.ask_again(self.board.ledger.close(games, reason))

    def _open(self, games: Ints) -> None:
        place = self.board.place(games)
        wrong = self.oracle.base_labels(self.board.x0[place]) != self.board.label[place]
        self.board.ledger.close(games[wrong.cpu().numpy()], "clean")
        self.judge.open(games)
