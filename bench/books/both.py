"""One play before the Referee and before its naive double, and everything that is compared."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from arena.game.referee import Referee
from arena.game.stack import Stack
from arena.game.stack_oracle import StackOracle
from arena.records.reports import GameRows, MemoryListener
from arena.rules.moves import Answers, Claim, Consult, Note, Resign, Submit, Volley, VolleyError
from arena.rules.threat import Threat
from bench.books import broken, world
from bench.books.naive import NaiveReferee, quantised
from bench.books.plays import Delta, Play
from bench.books.service import Image, Service, code_of, label_of

QUERIES = (
    "turn",
    "account",
    "label",
    "refused",
    "flagged",
    "margin",
    "l2",
    "linf",
    "hit",
    "outside",
    "better",
)
MARKS = ("turn", "answered", "vote", "wrong", "asked", "again", "base", "l2", "linf")


class Difference(Exception):
    """The Referee and its double disagree."""


def same(what: str, found: Any, expected: Any, far: float = 0.0) -> None:
    """That two values, lists or tables are alike, NaN like NaN.

    Raises:
        Difference: naming `what` and both values.
    """
    if not _alike(found, expected, far):
        if isinstance(expected, dict) and found.keys() == expected.keys():
            apart = [key for key in expected if not _alike(found[key], expected[key], far)]
            found, expected = ({key: of[key] for key in apart} for of in (found, expected))
        raise Difference(f"{what}: the Referee has {found}, the rules say {expected}")


def _alike(found: Any, expected: Any, far: float) -> bool:
    if found == expected:
        return True
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_alike(found[k], expected[k], far) for k in expected)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(
            _alike(f, e, far) for f, e in zip(found, expected, strict=True)
        )
    if not isinstance(expected, float) or isinstance(found, str):
        return False
    return (math.isnan(found) and math.isnan(expected)) or abs(found - expected) <= far


class Both:
    """One play before both.

    Attributes:
        tally: what happened: rows sent and charged, hits, refusals, bans, malformed moves, verdicts won.
    """

    def __init__(self, play: Play) -> None:
        self.play, self.threat = play, Threat(**play.threat)
        self.tally: Counter[str] = Counter(plays=1, games=len(play.x0))
        self.x0 = [tuple(p / 16 for p in pixels) for pixels in play.x0]
        is_random = play.random and play.memory is not None
        service = Service(
            play.weight,
            play.bias,
            play.memory,
            is_random,
            play.seed,
            play.holes,
            play.key,
            self.threat.budget + 1,
        )
        seen = [label_of(service.base(quantised(x, self.threat.quantisation))) for x in self.x0]
        label = [(max(y, 0) + w) % 3 for y, w in zip(seen, play.wrong, strict=True)]
        target = None
        if self.threat.targeted:
            target = [(y + o) % 3 for y, o in zip(label, play.offset, strict=True)]
        self.naive = NaiveReferee(
            service, self.threat, self.x0, label, target, play.key, at=play.at, votes=play.votes
        )
        defenders = () if play.memory is None else (world.warden(play.memory, play.random, world.Detecting),)
        of = world.classifier(play.weight, play.bias, play.batch, play.holes)
        self.oracle = StackOracle(
            Stack(of, defenders), seed=play.seed, games=len(play.x0), accounts=self.threat.accounts
        )
        self.record = MemoryListener()
        self.referee = Referee(
            self.oracle,
            world.deal(tensor(self.x0), label, key=play.key, target=target),
            self.threat,
            at=play.at,
            votes=play.votes,
            listener=self.record,
            max_rows=play.max_rows,
        )

    def run(self) -> Counter[str]:
        """Make all moves before both, end the games, and compare all that was told; what happened.

        Raises:
            Difference: at the first that differs.
        """
        for kind, what in self.play.moves:
            self.move(kind, what)
        self.compare_memory()
        rows = self.referee.finish()
        same("the games reported", self.record.game_rows is rows, True)
        self.compare_ends(rows)
        self.compare_log()
        self.compare_marks()
        self.compare_notes()
        return self.tally

    def image(self, game: int, delta: Delta) -> Image:
        """The clean image of a game, moved."""
        moved = zip(self.play.x0[game], delta, strict=True)
        return tuple(min(16, max(0, p + d)) / 16 for p, d in moved)

    def move(self, kind: str, what: Any) -> None:
        """Make a move before both and compare what was heard, and how the games stand."""
        if kind == "volley":
            self._volley(*what)
        elif kind == "broken":
            self._broken(*what)
        elif kind in ("detector", "gradient"):
            self._consult(kind, what)
        else:
            self._other(kind, what)

    def _other(self, kind: str, what: Any) -> None:
        if kind in ("submit", "claim"):
            images = [(game, self.image(game, delta)) for game, delta in what]
            move = Submit if kind == "submit" else Claim
            x, game = tensor([x for _, x in images]), world.index(*[g for g, _ in images])
            answers = self.referee.serve(move(x, game))
            (self.naive.submit if kind == "submit" else self.naive.claim)(images)
        elif kind == "note":
            key, value, games = what
            answers = self.referee.serve(Note(key, value, world.index(*games)))
            self.naive.note(key, games, value)
        else:
            answers = self.referee.serve(Resign(world.index(*what), kind))  # type: ignore[arg-type]
            self.naive.resign(what, kind)
        self.compare_standing(answers)

    def _volley(self, purpose: str, what: Sequence[tuple[int, int, Delta]]) -> None:
        rows = [(game, account, self.image(game, delta)) for game, account, delta in what]
        if len(rows) > self.play.max_rows:
            rows = rows[: self.play.max_rows]
        x, game = tensor([x for _, _, x in rows]), [g for g, _, _ in rows]
        account = world.index(*[a for _, a, _ in rows])
        before = sum(book.queries for book in self.naive.books)
        answers = self.referee.serve(Volley(x, world.index(*game), account, purpose))
        heard = self.naive.volley(rows, purpose)
        charged = sum(book.queries for book in self.naive.books) - before
        self.tally.update(sent=len(rows), rows=charged)
        same("rows charged", self.referee.granted, charged)
        same("games of the answers", answers.game.tolist(), game)
        same("rows answered", answers.answered.tolist(), [h["answered"] for h in heard])
        same("rows refused", answers.refused.tolist(), [h["refused"] for h in heard])
        same("labels answered", answers.label.tolist(), [h["label"] for h in heard])
        if self.threat.feedback == "label":
            same("scores answered", answers.scores, None)
        else:
            expected = [shown(h["scores"], self.threat.feedback) for h in heard]
            scores = torch.zeros(0, 3) if answers.scores is None else answers.scores
            far = 0.0 if self.threat.feedback == "logits" else 1e-6
            same("scores answered", scores.tolist(), expected, far)
        self.compare_standing(answers)

    def _broken(self, how: str, what: Sequence[tuple[int, int, Delta]]) -> None:
        """A malformed move is rejected, and nothing else happens."""
        rows = [(game, account, self.image(game, delta)) for game, account, delta in what]
        x, game = tensor([x for _, _, x in rows]), world.index(*[g for g, _, _ in rows])
        move = broken.move(how, x, game, world.index(*[a for _, a, _ in rows]), self)
        reported = len(self.record.query_rows), len(self.record.mark_rows), len(self.record.note_rows)
        self._rejected(f"a malformed move ({how})", move)
        now = len(self.record.query_rows), len(self.record.mark_rows), len(self.record.note_rows)
        same(f"reports after a malformed move ({how})", now, reported)
        self.tally["malformed"] += 1

    def _rejected(self, what: str, move: Any) -> None:
        try:
            self.referee.serve(move)
        except VolleyError:
            self.compare_standing(self.referee.state())
        else:
            raise Difference(f"{what} was served")

    def _consult(self, kind: str, what: Sequence[tuple[int, Delta]]) -> None:
        games, x = [game for game, _ in what], [self.image(game, delta) for game, delta in what]
        move = Consult(tensor(x), world.index(*games), kind)  # type: ignore[arg-type]
        needed = ("weights",) if kind == "gradient" else ("weights", "detector")
        if self.threat.knowledge not in needed or (kind == "detector" and self.play.memory is None):
            self._rejected("a consultation that is not granted", move)
            return
        answers = self.referee.serve(move)
        self.naive.consult(games)
        self.tally["insider"] += len(games)
        if kind == "gradient":
            books = [self.naive.books[game] for game in games]
            expected = [self.naive.loss(*pair) for pair in zip(books, x, strict=True)]
            same("losses consulted", [] if answers.loss is None else answers.loss.tolist(), expected)
        elif answers.insight is not None:
            same("detector", answers.insight.tolist(), [float(code_of(i)) for i in x], 1e-5)
        self.compare_standing(answers)

    def compare_standing(self, answers: Answers) -> None:
        """Compare how the games stand."""
        books = self.naive.books
        is_open = [book.reason is None for book in books]
        same("queries left", answers.left.tolist(), [self.threat.budget - book.queries for book in books])
        same("open games", answers.open.tolist(), is_open)
        same("games playing", answers.playing.tolist(), [g for g, o in enumerate(is_open) if o])
        accounts = range(self.threat.accounts)
        closed = [[a in book.closed_accounts for a in accounts] for book in books]
        same("accounts banned", answers.banned.tolist(), closed)

    def compare_log(self) -> None:
        """Compare the queries logged, in each game's order, by purpose."""
        logs: list[list[dict[str, Any]]] = [[] for _ in self.play.x0]
        for rows in self.record.query_rows:
            columns = [getattr(rows, name).tolist() for name in QUERIES]
            for game, *cells in zip(rows.game.tolist(), *columns, strict=True):
                logs[game].append({"purpose": rows.purpose} | dict(zip(QUERIES, cells, strict=True)))
        for game, (log, book) in enumerate(zip(logs, self.naive.books, strict=True)):
            same(f"turns logged of game {game}", [r["turn"] for r in log], [r["turn"] for r in book.log])
            for row, expected in zip(log, book.log, strict=True):
                same(f"log of game {game}, turn {row['turn']}", row, expected)
            self.tally["hits"] += sum(row["hit"] for row in book.log)
            self.tally["refused"] += book.refused
            self.tally["banned accounts"] += len(book.closed_accounts)

    def compare_marks(self) -> None:
        """Compare the verdicts at the marks; each is reported once."""
        marks: dict[tuple[int, int], dict[str, Any]] = {}
        for rows in self.record.mark_rows:
            columns = [getattr(rows, name).tolist() for name in MARKS]
            for game, *cells in zip(rows.game.tolist(), *columns, strict=True):
                same(f"mark {rows.at} of game {game} reported before", (game, rows.at) in marks, False)
                marks[game, rows.at] = dict(zip(MARKS, cells, strict=True))
        expected = {(g, at): mark for g, b in enumerate(self.naive.books) for at, mark in b.marks.items()}
        same("marks", sorted(marks), sorted(expected))
        for (game, at), mark in marks.items():
            same(f"mark {at} of game {game}", mark, expected[game, at])
        self.tally["marks"] += len(marks)

    def compare_notes(self) -> None:
        """Compare the notes as they were passed on."""
        found = [(n.key, n.game.tolist(), n.turn.tolist(), list(n.value)) for n in self.record.note_rows]
        same("notes", found, self.naive.notes)

    def compare_memory(self) -> None:
        """The warden remembers the rows that were kept, in order, and no others."""
        if not self.oracle.stateful:
            return
        expected = self.naive.service.trace
        found = self.oracle._memories[0].trace
        if self.play.memory != "service":  # in waves, but in order within each game
            expected, found = sorted(expected), sorted(found)
        same("rows remembered", found, expected)

    def compare_ends(self, rows: GameRows) -> None:
        """Compare how all games ended: reasons, counts, verdicts, distances, final images."""
        finals = np.asarray(rows.final).reshape(len(rows), -1).tolist()
        for game, expected in enumerate(self.naive.finish()):
            del expected["turn"]
            told = expected.keys() - {"reason", "final"}
            found = {name: getattr(rows, name)[game].tolist() for name in told}
            found |= {"reason": rows.reason[game], "final": finals[game]}
            same(f"the end of game {game}", found, expected)
            self._count(expected)

    def _count(self, end: dict[str, Any]) -> None:
        won = {
            "answered": end["answered"],
            "vote": end["vote"] > 0.5,
            "again": end["again"] == 1,
            "base": end["base"],
            "any": end["answered"] or end["vote"] > 0.5 or end["again"] == 1 or end["base"],
        }
        self.tally.update({f"won by {verdict}": 1 for verdict, is_won in won.items() if is_won})
        self.tally[f"ended {end['reason']}"] += 1


def tensor(x: Sequence[Image]) -> torch.Tensor:
    """Images as a tensor [n,1,2,2]."""
    return torch.tensor(x, dtype=torch.float32).reshape(-1, *world.SHAPE)


def shown(scores: list[float] | None, feedback: str) -> list[float]:
    """What the attacker sees of three scores; NaN where no label was given."""
    if scores is None:
        return [math.nan] * 3
    if feedback == "logits":
        return scores
    infinite = scores.count(math.inf)
    if infinite:
        p = [(s == math.inf) / infinite for s in scores]
    else:
        total = sum(math.exp(s) for s in scores)
        p = [math.exp(s) / total for s in scores]
    order = sorted(range(3), key=lambda k: (-scores[k], k))
    visible = order[:2] if feedback == "topk:2" else order
    return [p[k] if k in visible else 0.0 for k in range(3)]
