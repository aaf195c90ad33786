"""The rules of the game as docs/design.md tells them, one row after the other in plain Python.

Nothing here is vectorised, and nothing is shared with the Referee but the l2 distance of one image in
float32, which is checked, and the keyed draws of one row. Images are four pixels; only the warden of world.py
can defend.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from arena.rules.geometry import distances
from arena.rules.threat import Threat
from bench.books.service import NAN, Image, Reply, Service, label_of

_LEVEL = [float(np.float32(k) / np.float32(255)) for k in range(256)]


def quantised(x: Image, how: str) -> Image:
    """The image on 8-bit levels."""
    if how == "none":
        return x
    if how == "round":
        return tuple(_LEVEL[round(255 * p)] for p in x)
    return tuple(_LEVEL[math.floor(255 * p + 1e-3)] for p in x)


@lru_cache(maxsize=200_000)
def distances_of(x: Image, x0: Image) -> tuple[float, float]:
    """l2 and linf as float32 holds them, which must be what float64 says, rounded."""
    one, other = (torch.tensor(pixels).view(1, 1, 2, 2) for pixels in (x, x0))
    l2, linf = (float(d) for d in distances(one, other))
    if not (math.isclose(l2, math.dist(x, x0), rel_tol=3e-7, abs_tol=1e-9)):
        raise ArithmeticError(f"the l2 distance of {x} and {x0} is {math.dist(x, x0)}, not {l2}")
    if linf != float(np.float32(max(abs(p - q) for p, q in zip(x, x0, strict=True)))):
        raise ArithmeticError(f"the linf distance of {x} and {x0} is not {linf}")
    return l2, linf


@dataclass
class Book:
    """One game."""

    x0: Image
    label: int
    target: int | None
    key: int
    reason: str | None = None
    queries: int = 0
    refused: int = 0
    insider: int = 0
    hit_at: int = 0
    accepted_at: int = 0
    hit_in_volley: bool = False
    closed_accounts: set[int] = field(default_factory=set)
    last_account: int = 0
    again: float = NAN
    final: Image = ()
    final_turn: int = 0
    final_is_hit: bool = False
    final_value: float = math.inf
    chosen: bool = False
    log: list[dict[str, Any]] = field(default_factory=list)
    marks: dict[int, dict[str, Any]] = field(default_factory=dict)


class NaiveReferee:
    """Same moves in, same books out; see the module."""

    def __init__(
        self,
        service: Service,
        threat: Threat,
        x0: Sequence[Image],
        label: Sequence[int],
        target: Sequence[int] | None,
        key: Sequence[int],
        *,
        at: Sequence[int],
        votes: int,
    ) -> None:
        self.service, self.threat = service, threat
        self.votes = votes if service.random else 1
        self.at = sorted({a for a in at if 0 < a <= threat.budget})
        self.books: list[Book] = []
        self.notes: list[tuple[str, list[int], list[int], list[str | float]]] = []
        for g in range(len(x0)):
            clean = self._quantised(x0[g])
            book = Book(clean, label[g], None if target is None else target[g], key[g], final=clean)
            if label_of(service.base(clean)) != book.label:
                book.reason = "clean"
            self.books.append(book)
        for g, book in enumerate(self.books):
            book.marks[0] = self._standing(g, 0)

    def _quantised(self, x: Image) -> Image:
        return quantised(x, self.threat.quantisation)

    def _inside(self, l2: float, linf: float) -> bool:
        return (l2 if self.threat.norm == "l2" else linf) <= self.threat.epsilon + 1e-6

    def _wins(self, book: Book, label: int) -> bool:
        if label < 0:
            return False
        return label != book.label if book.target is None else label == book.target

    def margin(self, book: Book, scores: Sequence[float]) -> float:
        of = book.label if book.target is None else book.target
        if any(math.isnan(s) for s in scores):
            return NAN
        other = max(s for k, s in enumerate(scores) if k != of)
        margin = 0.0 if scores[of] == other else scores[of] - other
        return margin if book.target is None else -margin

    def loss(self, book: Book, x: Image) -> float:
        """What an insider is told: the margin that the classifier alone gives."""
        return self.margin(book, self.service.base(x))

    # Moves

    def volley(self, rows: Sequence[tuple[int, int, Image]], purpose: str = "") -> list[dict[str, Any]]:
        """Rows (game, account, image) in order; what the attacker hears of each."""
        for game in {game for game, _, _ in rows}:
            if self.books[game].reason is None:
                self.books[game].hit_in_volley = False
        if self.service.memory != "service":
            return [self._row(*row, purpose, remember=True) for row in rows]
        # The service remembers in order of turn, then game: nobody hears of rows of the same rank.
        heard: list[dict[str, Any] | None] = [None] * len(rows)
        asked = [sum(r[0] == row[0] for r in rows[:n]) for n, row in enumerate(rows)]
        for rank in range(max(asked, default=-1) + 1):
            wave = sorted((n for n in range(len(rows)) if asked[n] == rank), key=lambda n: rows[n][0])
            for n in wave:
                heard[n] = self._row(*rows[n], purpose, remember=False)
            kept = [n for n in wave if heard[n]["kept"]]  # type: ignore[index]
            for n in kept:
                game, account, x = rows[n]
                self.service.remember(self._quantised(x), game, account, self.books[game].queries)
            for n in kept:
                self._mark(rows[n][0])
                self._ask_again_if_closed(rows[n][0])
        return heard  # type: ignore[return-value]

    def _row(self, game: int, account: int, x: Image, purpose: str, *, remember: bool) -> dict[str, Any]:
        book = self.books[game]
        if book.reason is not None:
            return {"kept": False, "answered": False, "refused": False, "label": -1, "scores": None}
        x = self._quantised(x)
        book.queries += 1
        book.last_account = account
        turn = book.queries
        reply = self.service.ask(x, game, account, book.key, turn)
        refused = reply.refused or reply.banned or account in book.closed_accounts
        book.refused += refused
        l2, linf = distances_of(x, book.x0)
        inside = self._inside(l2, linf)
        hit = not refused and inside and self._wins(book, reply.label)
        margin = self.margin(book, reply.scores)
        if hit and not book.hit_at:
            book.hit_at = turn
        book.hit_in_volley |= hit
        better = self._enter_best(book, x, reply, refused, inside, hit, margin, l2, linf)
        book.log.append(
            {
                "purpose": purpose,
                "turn": turn,
                "account": account,
                "label": reply.label,
                "refused": refused,
                "flagged": reply.flagged,
                "margin": margin,
                "l2": l2,
                "linf": linf,
                "hit": hit,
                "outside": not refused and not inside and self._wins(book, reply.label),
                "better": better,
            }
        )
        if reply.banned:
            book.closed_accounts.add(account)
        if hit and self.threat.objective == "first":
            book.reason = "hit"
        elif len(book.closed_accounts) == self.threat.accounts:
            book.reason = "banned"
        elif turn == self.threat.budget:
            book.reason = "budget"
        if remember:
            self.service.remember(x, game, account, turn)
            self._mark(game)
            self._ask_again_if_closed(game)
        label = -1 if refused else reply.label
        scores = None if label < 0 else reply.scores
        return {"kept": True, "answered": not refused, "refused": refused, "label": label, "scores": scores}

    def _enter_best(
        self,
        book: Book,
        x: Image,
        reply: Reply,
        refused: bool,
        inside: bool,
        hit: bool,
        margin: float,
        l2: float,
        linf: float,
    ) -> bool:
        """Hits first; then the lowest margin, or the nearest hit under `minimum`; then the earlier."""
        minimum = self.threat.objective == "minimum"
        if book.chosen:
            return False
        if refused or reply.label < 0 or not (inside or minimum):
            return False
        value = margin
        if hit and minimum:
            value = l2 if self.threat.norm == "l2" else linf
        if (hit, -value) <= (book.final_is_hit, -book.final_value):
            return False
        book.final, book.final_turn = x, book.queries
        book.final_is_hit, book.final_value = hit, value
        return True

    def submit(self, images: Sequence[tuple[int, Image]]) -> None:
        for game, x in images:
            book = self.books[game]
            if book.reason is None:
                book.reason, book.chosen = "submitted", True
                book.final, book.final_turn = self._quantised(x), book.queries
                self._ask_again(game)

    def claim(self, images: Sequence[tuple[int, Image]]) -> None:
        """Only answers that are not facts may be luck; under `first` the first hit ends the game anyway."""
        if (self.service.random or self.service.stateful) and self.threat.objective != "first":
            for game, x in images:
                book = self.books[game]
                if book.reason is None:
                    book.chosen = True
                    book.final, book.final_turn = self._quantised(x), book.queries

    def resign(self, games: Sequence[int], reason: str) -> None:
        for game in games:
            if self.books[game].reason is None:
                self.books[game].reason = reason
                self._ask_again(game)

    def accept(self, games: Sequence[int]) -> None:
        for game in games:
            book = self.books[game]
            if book.hit_in_volley and not book.accepted_at:
                book.accepted_at = book.queries

    def note(self, key: str, games: Sequence[int], value: str | float) -> None:
        if key == "accepted":
            self.accept(games)
        turns = [self.books[game].queries for game in games]
        self.notes.append((key, list(games), turns, [value] * len(games)))

    def consult(self, games: Sequence[int]) -> None:
        for game in games:
            self.books[game].insider += 1

    # Verdicts

    def _mark(self, game: int) -> None:
        book = self.books[game]
        if book.queries in self.at and book.queries not in book.marks:
            self._ask_again(game)
            book.marks[book.queries] = self._standing(game, book.queries)

    def _ask_again_if_closed(self, game: int) -> None:
        if self.books[game].reason is not None:
            self._ask_again(game)

    def _ask_again(self, game: int) -> None:
        """Let the client that asked last ask for the final image once more, by what is remembered now."""
        book, service = self.books[game], self.service
        if not service.stateful or not book.queries:
            return
        account = book.last_account
        reply = service.ask(book.final, game, account, book.key, book.queries + 1, self.votes)
        refused = reply.refused or reply.banned or account in book.closed_accounts
        inside = self._inside(*distances_of(book.final, book.x0))
        book.again = float(inside and self._wins(book, reply.label) and not refused)

    def _standing(self, game: int, at: int) -> dict[str, Any]:
        book = self.books[game]
        x = book.final
        l2, linf = distances_of(x, book.x0)
        wrong, asked, base = [0, 0], [0, 0], False
        if self._inside(l2, linf):
            base = self._wins(book, label_of(self.service.base(x)))
            for draw in range(self.votes):
                reply = self.service.ask_fresh(x, book.key, book.final_turn, draw)
                half = 0 if draw < (self.votes + 1) // 2 else 1
                asked[half] += 1
                wrong[half] += self._wins(book, reply.label) and not reply.refused and not reply.banned
        answered = 0 < book.hit_at <= at
        known = sum(wrong) > 0 if book.chosen else answered
        return {
            "turn": book.final_turn,
            "answered": answered,
            "vote": sum(wrong) / self.votes,
            "wrong": wrong,
            "asked": asked,
            "again": book.again,
            "base": base,
            "l2": l2 if known else NAN,
            "linf": linf if known else NAN,
        }

    def finish(self) -> list[dict[str, Any]]:
        """End all games; how each ended."""
        ended = []
        for game, book in enumerate(self.books):
            if book.reason is None:
                book.reason = "resigned"
                self._ask_again(game)
            for at in self.at:
                if at not in book.marks:
                    book.marks[at] = self._standing(game, at)
            ended.append(
                self._standing(game, self.threat.budget)
                | {
                    "reason": book.reason,
                    "queries": book.queries,
                    "refused": book.refused,
                    "insider_queries": book.insider,
                    "hit_at": book.hit_at,
                    "accepted_at": book.accepted_at,
                    "final": list(book.final),
                }
            )
        return ended
