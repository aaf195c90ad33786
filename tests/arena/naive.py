"""The rules of the game as docs/design.md tells them, one row after the other in plain Python.

Nothing here is vectorised and nothing is shared with the Referee but the arithmetic of one image
(quantisation, distances) and the keyed draws of one row. Only the wardens of worlds.py can defend.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from arena import draws
from arena.rules.geometry import distances, quantise
from arena.rules.threat import Threat

NAN = math.nan


@dataclass
class Reply:
    """What the service says to one image."""

    scores: list[float]
    declined: bool = False
    refused: bool = False
    flagged: bool = False
    banned: bool = False

    @property
    def label(self) -> int:
        return -1 if self.declined else label_of(self.scores)


def label_of(scores: Sequence[float]) -> int:
    """The first of the highest; none where scores hold NaN, nothing finite, or only one value."""
    if any(map(math.isnan, scores)) or not any(map(math.isfinite, scores)):
        return -1
    if len(scores) > 1 and min(scores) == max(scores):
        return -1
    return list(scores).index(max(scores))


@dataclass
class Service:
    """The exact classifier behind at most one warden."""

    weight: Sequence[Sequence[int]]
    bias: Sequence[int]
    memory: str | None = None
    random: bool = False
    seed: int = 0
    counts: dict[Any, int] = field(default_factory=dict)
    trace: list[tuple[int, int, int, int]] = field(default_factory=list)

    def base(self, x: Tensor) -> list[float]:
        pixels = [float(p) for p in x.flatten().tolist()]
        logits = []
        for weights, bias in zip(self.weight, self.bias, strict=True):
            total = sum(w * p for w, p in zip(weights, pixels, strict=True)) + bias
            logits.append(round(total * 64) / 64)
        if pixels[0] == 1:
            logits[0] = NAN
        return logits

    def _scope(self, game: int, account: int) -> Any:
        return {"game": game, "account": (game, account), "service": 0}.get(self.memory or "none")

    def count(self, game: int, account: int) -> int:
        return self.counts.get(self._scope(game, account), 0)

    def ask_fresh(self, x: Tensor, key: int, turn: int, draw: int) -> Reply:
        """What a new client is answered, whom nobody remembers: its first query; without memory, the turn
        only chooses the draws."""
        return self._reply(x, 0, key, 1 if self.stateful else turn, draw)

    def ask(self, x: Tensor, game: int, account: int, key: int, turn: int, draw: int | None = None) -> Reply:
        """The defended reply; `draw` counts those of a verdict."""
        return self._reply(x, self.count(game, account), key, turn, draw)

    def _reply(self, x: Tensor, count: int, key: int, turn: int, draw: int | None) -> Reply:
        scores = self.base(x)
        if self.memory is None:
            return Reply(scores)
        code = _code(x)
        scores[0] += count % 3
        if self.random:
            seed = draws.derive(self.seed, 0)
            if draw is not None:
                seed = draws.derive(seed, "verdict")
            u = draws.uniform(seed, torch.tensor([key]), turn, (), stream=16 * (draw or 0)).item()
            if u < 0.3:
                scores = [scores[-1], *scores[:-1]]
        return Reply(
            scores,
            declined=(code + count) % 7 == 6,
            refused=(code + 2 * count) % 5 == 4,
            flagged=code % 3 == 0,
            banned=(code + count) % 11 == 10,
        )

    def remember(self, x: Tensor, game: int, account: int, turn: int) -> None:
        if self.memory in ("game", "account", "service"):
            scope = self._scope(game, account)
            self.counts[scope] = self.counts.get(scope, 0) + 1
            self.trace.append((game, turn, account, _code(x)))

    @property
    def stateful(self) -> bool:
        return self.memory in ("game", "account", "service")


def _code(x: Tensor) -> int:
    total: float = sum(x.double().flatten().tolist())
    return round(total * 16)


@dataclass
class Book:
    """One game."""

    x0: Tensor
    label: int
    target: int | None
    key: int
    reason: str | None = None
    queries: int = 0
    refused: int = 0
    hit_at: int = 0
    accepted_at: int = 0
    hit_in_volley: bool = False
    closed_accounts: set[int] = field(default_factory=set)
    last_account: int = 0
    again: float = NAN
    final: Tensor | None = None
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
        x0: Tensor,
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
        self.books = []
        for g in range(len(x0)):
            clean = self._quantised(x0[g])
            book = Book(clean, label[g], None if target is None else target[g], key[g], final=clean)
            if Reply(service.base(clean)).label != book.label:
                book.reason = "clean"
            self.books.append(book)
        for g, book in enumerate(self.books):
            book.marks[0] = self._standing(g, 0)

    def _quantised(self, x: Tensor) -> Tensor:
        return quantise(x.unsqueeze(0), self.threat.quantisation)[0]

    def _distances(self, x: Tensor, book: Book) -> tuple[float, float]:
        l2, linf = distances(x.unsqueeze(0), book.x0.unsqueeze(0))
        return l2.item(), linf.item()

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
        margin = scores[of] - max(s for k, s in enumerate(scores) if k != of)
        return margin if book.target is None else -margin

    # Moves

    def volley(self, rows: Sequence[tuple[int, int, Tensor]]) -> list[dict[str, Any]]:
        """Rows (game, account, image) in order; what the attacker hears of each."""
        for game in {game for game, _, _ in rows}:
            if self.books[game].reason is None:
                self.books[game].hit_in_volley = False
        if self.service.memory != "service":
            return [self._row(*row, remember=True) for row in rows]
        # The service remembers in order of turn, then game: nobody hears of rows of the same rank.
        heard: list[dict[str, Any] | None] = [None] * len(rows)
        asked = [sum(r[0] == row[0] for r in rows[:n]) for n, row in enumerate(rows)]
        for rank in range(max(asked, default=-1) + 1):
            wave = sorted((n for n in range(len(rows)) if asked[n] == rank), key=lambda n: rows[n][0])
            for n in wave:
                heard[n] = self._row(*rows[n], remember=False)
            kept = [n for n in wave if heard[n]["kept"]]  # type: ignore[index]
            for n in kept:
                game, account, x = rows[n]
                self.service.remember(self._quantised(x), game, account, self.books[game].queries)
            for n in kept:
                self._mark(rows[n][0])
                self._ask_again_if_closed(rows[n][0])
        return heard  # type: ignore[return-value]

    def _row(self, game: int, account: int, x: Tensor, *, remember: bool) -> dict[str, Any]:
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
        l2, linf = self._distances(x, book)
        inside = self._inside(l2, linf)
        hit = not refused and inside and self._wins(book, reply.label)
        margin = self.margin(book, reply.scores)
        if hit and not book.hit_at:
            book.hit_at = turn
        book.hit_in_volley |= hit
        better = self._enter_best(book, x, reply, refused, inside, hit, margin, l2, linf)
        book.log.append(
            {
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
        x: Tensor,
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

    def submit(self, images: Sequence[tuple[int, Tensor]]) -> None:
        for game, x in images:
            book = self.books[game]
            if book.reason is None:
                book.reason, book.chosen = "submitted", True
                book.final, book.final_turn = self._quantised(x), book.queries
                self._ask_again(game)

    def claim(self, images: Sequence[tuple[int, Tensor]]) -> None:
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
        assert book.final is not None
        account = book.last_account
        reply = service.ask(book.final, game, account, book.key, book.queries + 1, self.votes)
        refused = reply.refused or reply.banned or account in book.closed_accounts
        inside = self._inside(*self._distances(book.final, book))
        book.again = float(inside and self._wins(book, reply.label) and not refused)

    def _standing(self, game: int, at: int) -> dict[str, Any]:
        book = self.books[game]
        assert book.final is not None
        x = book.final
        l2, linf = self._distances(x, book)
        wrong, asked, base = [0, 0], [0, 0], False
        if self._inside(l2, linf):
            base = self._wins(book, Reply(self.service.base(x)).label)
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
            assert book.final is not None
            ended.append(
                self._standing(game, self.threat.budget)
                | {
                    "reason": book.reason,
                    "queries": book.queries,
                    "refused": book.refused,
                    "hit_at": book.hit_at,
                    "accepted_at": book.accepted_at,
                    "final": book.final.tolist(),
                }
            )
        return ended
