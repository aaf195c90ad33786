"""The only gate between an attacker and the defended classifier (DESIGN.md, D2 and D3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arena.game.checks import Checks, word
from arena.game.ledger import Ledger, RowScalars, Ruling
from arena.game.openings import Openings
from arena.game.oracle import Oracle
from arena.game.verdicts import Judge
from arena.game.waves import Wave, rank_within
from arena.players import Response, Rows
from arena.players.seat import Games, Resources
from arena.records.reports import GameRows, Listener, NoteRows, QueryRows, SilentListener
from arena.rules.feedback import shown
from arena.rules.geometry import distances, quantise
from arena.rules.losses import attack_loss
from arena.rules.moves import Answers, Claim, Consult, Move, Note, Resign, Submit, Volley, VolleyError
from arena.rules.outcome import Bools, Ints, Reason, labels_of
from arena.rules.threat import Threat

LONGEST_VOLLEY, VOLLEY_PIXELS = 4096, 2**27
"""A volley is no longer than this, nor are its images larger, all together (half a GiB of float32)."""


def longest_volley(shape: Sequence[int]) -> int:
    """The longest volley of images of `shape` [C,H,W]: 4096 rows of 3 x 32 x 32, 891 of 3 x 224 x 224."""
    return max(1, min(LONGEST_VOLLEY, VOLLEY_PIXELS // math.prod(shape)))


class Referee:
    """Checks moves, charges budgets, answers, keeps the best, gives verdicts, and reports to a listener.

    Args:
        oracle: the defended classifier.
        deal: the games; those that the hardened classifier gets wrong end at once with reason `clean`.
        threat: the rules.
        at: query counts to report verdicts at, besides 0 and the end.
        votes: fresh answers per vote of a random defender; a deterministic one is asked once.
        listener: hears all that happens.
        max_rows: the longest volley allowed; None: `longest_volley`.
    """

    def __init__(
        self,
        oracle: Oracle,
        deal: Openings,
        threat: Threat,
        *,
        at: Sequence[int] = (),
        votes: int = 25,
        listener: Listener | None = None,
        max_rows: int | None = None,
    ) -> None:
        self.oracle, self.threat, self.listener, self.max_rows = (
            oracle,
            threat,
            listener or SilentListener(),
            max_rows or longest_volley(deal.x0.shape[1:]),
        )
        marks = sorted({a for a in at if 0 < a <= threat.budget})
        self.x0 = quantise(deal.x0.clone(), threat.quantisation)
        self.label, self.key = deal.label.clone(), deal.key.clone()
        self.target = None if deal.target is None else deal.target.clone()
        self.best = self.x0.clone()
        games = len(deal.x0)
        target = None if deal.target is None else deal.target.cpu().numpy()
        self.ledger = Ledger(threat, deal.label.cpu().numpy(), target, marks)
        self.in_turns = oracle.stateful or threat.accounts > 1
        self.granted = 0
        self.checks = Checks(self.x0, threat.accounts, self.max_rows)
        self._turn = torch.zeros(games, dtype=torch.int64, device=deal.x0.device)
        self.judge = Judge(self, marks, votes if oracle.random else 1)
        self._open(np.arange(games))

    @property
    def games(self) -> int:
        return len(self.x0)

    @property
    def open(self) -> Bools:
        """[G] on the host."""
        return self.ledger.is_open

    def redeal(self, games: Ints, deal: Openings) -> None:
        """Put new games in the places `games` of finished ones."""
        place = torch.from_numpy(games).to(self.x0.device)
        self.x0[place] = quantise(deal.x0, self.threat.quantisation)
        self.label[place], self.key[place] = deal.label, deal.key
        if self.target is not None and deal.target is not None:
            self.target[place] = deal.target
        self.best[place] = self.x0[place]
        self._turn[place] = 0
        self.oracle.forget(place)
        self._open(games)

    def seat(
        self, *, seed: int = 0, defense: dict[str, Any] | None = None, resources: Resources | None = None
    ) -> Games:
        """An attacker's seat at these games."""
        return Games(
            self.x0.clone(),
            self.label.clone(),
            self.threat,
            classes=self.oracle.base.classes,
            state=self.state(),
            target=None if self.target is None else self.target.clone(),
            key=self.key.clone(),
            seed=seed,
            max_rows=self.max_rows,
            defense=defense if self.threat.knowledge != "none" else None,
            resources=resources,
        )

    # Volleys

    def serve(self, move: Move) -> Answers:
        """Answer any move.

        Raises:
            VolleyError: if it is malformed or not a move; nothing is charged then.
        """
        if isinstance(move, Volley):
            return self.answer(move)
        if isinstance(move, Submit):
            return self.submit(move)
        if isinstance(move, Claim):
            return self.claim(move)
        if isinstance(move, Resign):
            return self.resign(move)
        if isinstance(move, Note):
            return self.note(move)
        if isinstance(move, Consult):
            return self.consult(move)
        raise VolleyError(
            f"a move is a Volley, Submit, Claim, Resign, Note or Consult; found {type(move).__name__}"
        )

    def answer(self, volley: Volley) -> Answers:
        """Answer a volley.

        Raises:
            VolleyError: if it is malformed; nothing is charged then.
        """
        pending = self.receive(volley)
        if self.in_turns:
            return self._answer_in_turns(pending)
        return self.release(pending, self.oracle.respond(pending.x, pending.rows))

    def receive(self, volley: Volley) -> Wave:
        """Check a volley and say what the defender has to answer."""
        self.checks.form(volley.x, volley.game, volley.account)
        word("purpose", volley.purpose)
        game = volley.game.clamp(0, self.games - 1)
        account = torch.zeros_like(game) if volley.account is None else volley.account
        flaws = self.checks.flaws(volley.x, volley.game, volley.account)
        if volley.x.device.type == "cpu" or self.in_turns:
            self.checks.reject(flaws.tolist())
        self.ledger.begin_volley()
        rank = rank_within(game)
        place = torch.arange(len(game), device=game.device)
        rows = Rows(game, self.key[game], self._turn[game] + rank + 1, account, place)
        sent = volley.x.detach().clone()
        return Wave(quantise(sent, self.threat.quantisation), sent, rows, rank, volley.purpose, flaws)

    def release(self, pending: Wave, response: Response) -> Answers:
        """Charge pending rows, enter what the defender responded, and answer the attacker."""
        response = replace(response, scores=response.scores.detach())
        label = labels_of(response.scores)
        if response.declined is not None:
            label = torch.where(response.declined, -1, label)
        columns = self._columns(pending, response, label)
        ruling = self.ledger.enter(columns)
        self.granted = int(ruling.kept.sum())
        self._turn = torch.from_numpy(self.ledger.queries).to(self.x0.device, copy=True)
        if self.oracle.stateful:
            self.oracle.commit(torch.from_numpy(ruling.kept).to(self.x0.device))
        for step in ruling.steps:
            if len(step.rows):
                rows = torch.from_numpy(step.rows).to(self.x0.device)
                self.best[torch.from_numpy(step.games).to(self.x0.device)] = pending.sent[rows]
            if step.mark is not None:
                self.judge.mark(step.mark, step.due)
        self._report(pending.purpose, columns, ruling)
        return self._answers(pending, response.scores, label, ruling)

    def _answer_in_turns(self, pending: Wave) -> Answers:
        """Answer in waves of at most one row a game, so that memory is read and written in order."""
        rank = pending.rank.cpu().numpy()
        game = pending.rows.game.cpu().numpy()
        waves: list[Answers] = []
        order: list[Ints] = []
        granted = 0
        for turn in range(int(rank.max(initial=-1)) + 1):
            rows = np.flatnonzero((rank == turn) & self.open[game])
            rows = rows[np.argsort(game[rows], kind="stable")]
            if not len(rows):
                break
            wave = pending.wave(torch.from_numpy(rows).to(self.x0.device))
            waves.append(self.release(wave, self.oracle.respond(wave.x, wave.rows)))
            granted += self.granted
            order.append(rows)
        self.granted = granted
        return self._assemble(pending, waves, order)

    def _assemble(self, pending: Wave, waves: list[Answers], order: list[Ints]) -> Answers:
        """The answers of waves in the order of the volley; rows that never got a turn are not answered."""
        game = pending.rows.game
        label = torch.full_like(game, -1)
        answered = torch.zeros_like(game, dtype=torch.bool)
        refused = answered.clone()
        scores = None
        for wave, rows in zip(waves, order, strict=True):
            place = torch.from_numpy(rows).to(game.device)
            label[place], answered[place], refused[place] = wave.label, wave.answered, wave.refused
            if wave.scores is not None:
                if scores is None:
                    scores = wave.scores.new_full((len(game), wave.scores.shape[1]), torch.nan)
                scores[place] = wave.scores
        if scores is None and self.threat.feedback != "label":
            scores = self.x0.new_full((len(game), self.oracle.base.classes), torch.nan)
        return replace(
            self.state(), game=game, label=label, scores=scores, answered=answered, refused=refused
        )

    def _columns(self, pending: Wave, response: Response, label: Tensor) -> RowScalars:
        """The rows' scalars on the host, by the one copy of a volley."""
        game = pending.rows.game
        target = self.target
        of = (self.label if target is None else target)[game]
        margin = attack_loss(response.scores, of, "margin", targeted=target is not None, logits=True)
        l2, linf = distances(pending.x, self.x0[game])
        no = torch.zeros_like(l2)
        columns: list[Tensor] = [game, pending.rank, pending.rows.account, label, margin, l2, linf]
        columns += [no if c is None else c for c in (response.refused, response.flagged, response.banned)]
        packed = torch.stack([c.to(torch.float32) for c in columns])
        on_host = torch.cat([packed.flatten(), pending.flaws]).cpu().numpy()
        self.checks.reject(on_host[packed.numel() :].tolist())
        host = on_host[: packed.numel()].reshape(packed.shape).astype(np.float64)
        whole = host[:4].astype(np.int64)
        flags = host[7:] > 0
        return RowScalars(*whole, *host[4:7], *flags)

    def _report(self, purpose: str, c: RowScalars, ruling: Ruling) -> None:
        kept = slice(None) if ruling.kept.all() else ruling.kept
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
                ruling.better[kept],
            )
        )

    # Other moves

    def submit(self, move: Submit) -> Answers:
        """End games with the images handed in."""
        self.judge.forget(self.ledger.close(self._stand_by(move), "submitted"))
        return self.state()

    def claim(self, move: Claim) -> Answers:
        """Let games be judged, from now on, by the images that the attacker stands by."""
        if self.oracle.random and self.threat.objective != "first":
            self.judge.forget(self._stand_by(move))
        else:
            self.checks.whole(move.x, move.game, once=True)
        return self.state()

    def _stand_by(self, move: Submit | Claim) -> Ints:
        """Let the attacker's choice take the place of the best images; returns the games that were open."""
        self.checks.whole(move.x, move.game, once=True)
        sent = move.x.detach()
        x = quantise(sent, self.threat.quantisation)
        l2, linf = (d.double().cpu().numpy() for d in distances(x, self.x0[move.game]))
        games = move.game.cpu().numpy()
        was_open = torch.from_numpy(self.open[games]).to(self.x0.device)
        self.best[move.game[was_open]] = sent[was_open]
        return self.ledger.choose(games, l2, linf)

    def resign(self, move: Resign) -> Answers:
        """End games without a final image of the attacker's choice."""
        word("a reason to resign", move.reason, ("resigned", "no-start"))
        self.ledger.close(self.checks.games(move.game), move.reason)
        return self.state()

    def note(self, move: Note) -> Answers:
        """Pass a remark on to the listener."""
        games = self.checks.games(move.game)
        self.checks.note(move)
        if move.key == "accepted":
            self.ledger.accept(games)
        values: list[Any] = (
            move.value.double().cpu().tolist()
            if isinstance(move.value, Tensor)
            else [move.value] * len(games)
        )
        self.listener.notes(NoteRows(move.key, games, self.ledger.queries[games], values))
        return self.state()

    def consult(self, move: Consult) -> Answers:
        """Serve an insider (D5): counted for each game, not charged."""
        word("what to consult", move.what, ("detector", "gradient"))
        word("a loss", move.loss, ("margin", "cross-entropy"))
        granted = self.threat.knowledge
        if granted != "weights" and (move.what == "gradient" or granted != "detector"):
            raise VolleyError(f'knowledge "{granted}" does not allow to consult the {move.what}')
        self.checks.whole(move.x, move.game)
        game, x = move.game, move.x.detach().clone()
        target = None if self.target is None else self.target[game]
        loss = None
        if move.what == "gradient":
            insight, loss = self.oracle.gradient(x, self.label[game], target, move.loss)
        else:
            try:
                insight = self.oracle.detector(x)
            except NotImplementedError as error:
                raise VolleyError(str(error)) from error
        self.ledger.insider += np.bincount(game.cpu().numpy(), minlength=self.games)
        return replace(self.state(), insight=insight, loss=loss)

    # How the games stand

    def state(self) -> Answers:
        """How the games stand, without rows."""
        none = torch.zeros(0, dtype=torch.int64, device=self.x0.device)
        return self._standing(none, none, None, none.bool(), none.bool())

    def finish(self, reason: Reason = "resigned") -> GameRows:
        """End all games that are still open, give the last verdicts, and report how all ended."""
        return self.end(np.arange(self.games), reason)

    def end(self, games: Ints, reason: Reason = "resigned") -> GameRows:
        """End those of `games` that are still open, give the last verdicts, and report how `games` ended."""
        self.ledger.close(games, reason)
        rows = self.judge.sum_up(games)
        self.listener.games(rows)
        return rows

    def _open(self, games: Ints) -> None:
        place = torch.from_numpy(games).to(self.x0.device)
        label = self.label[place]
        wrong = labels_of(self.oracle.base(self.x0[place])) != label
        target = None if self.target is None else self.target[place].cpu().numpy()
        self.ledger.reset(games, label.cpu().numpy(), target)
        self.ledger.close(games[wrong.cpu().numpy()], "clean")
        self.judge.open(games)

    def _answers(self, pending: Wave, scores: Tensor, label: Tensor, ruling: Ruling) -> Answers:
        game = pending.rows.game
        answered_all = bool(ruling.kept.all()) and not ruling.refused.any()
        if answered_all:
            answered = torch.ones_like(game, dtype=torch.bool)
            refused = torch.zeros_like(answered)
        else:
            flags = np.stack([ruling.kept & ~ruling.refused, ruling.kept & ruling.refused])
            answered, refused = torch.from_numpy(flags).to(game.device).unbind()
            label = torch.where(answered, label, -1)
        seen = shown(scores, self.threat.feedback, self.threat.top_k)
        if seen is not None and not (answered_all and ruling.labelled):
            seen = torch.where((label >= 0).unsqueeze(1), seen, torch.nan)
        return self._standing(game, label, seen, answered, refused)

    def _standing(
        self, game: Tensor, label: Tensor, scores: Tensor | None, answered: Tensor, refused: Tensor
    ) -> Answers:
        ledger, games, accounts = self.ledger, self.games, self.threat.accounts
        host = [ledger.left, ledger.is_open, ledger.banned.ravel(), np.flatnonzero(ledger.is_open)]
        packed = torch.from_numpy(np.concatenate(host, dtype=np.int64, casting="unsafe")).to(self.x0.device)
        left, is_open, banned, playing = torch.split(packed, [games, games, games * accounts, len(host[3])])
        return Answers(
            game=game,
            label=label,
            scores=scores,
            answered=answered,
            refused=refused,
            left=left,
            open=is_open > 0,
            playing=playing,
            banned=banned.view(games, accounts) > 0,
        )
