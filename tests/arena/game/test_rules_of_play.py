"""The Referee, its Ledger and its Judge against the rules told row by row (naive.py)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, note, settings
from hypothesis import strategies as st
from torch import Tensor

from arena.game.referee import Referee
from arena.game.stack import Stack
from arena.game.stack_oracle import StackOracle
from arena.records.reports import GameRows, MemoryListener
from arena.rules.geometry import quantise
from arena.rules.moves import Answers, Claim, Note, Resign, Submit, Volley
from arena.rules.threat import Threat

DELTA = st.tuples(*[st.integers(-5, 5)] * 4)
"""A perturbation in sixteenths."""


@dataclass(frozen=True)
class Play:
    """A whole play as plain numbers: the world, the rules, and the moves."""

    weight: list[tuple[int, ...]]
    bias: list[int]
    batch: int
    x0: list[tuple[int, ...]]
    wrong: list[bool]
    offset: list[int]
    key: list[int]
    threat: dict[str, Any]
    memory: str | None
    random: bool
    seed: int
    at: list[int]
    votes: int
    moves: list[tuple[str, Any]]


@st.composite
def plays(draw: st.DrawFn) -> Play:
    games = draw(st.integers(1, 4))
    accounts = draw(st.sampled_from([1, 1, 3]))
    budget = draw(st.integers(1, 12))
    norm = draw(st.sampled_from(["linf", "l2"]))
    objective = draw(st.sampled_from(["first", "submit", "minimum"]))
    radii = ["2/16", "4/16", 0.5] + (["inf"] if objective == "minimum" else [])
    some = st.lists(st.integers(0, games - 1), max_size=games)
    row = st.tuples(st.integers(0, games - 1), st.integers(0, accounts - 1), DELTA)
    submitted = st.lists(
        st.tuples(st.integers(0, games - 1), DELTA), max_size=games, unique_by=lambda r: r[0]
    )
    volley = st.tuples(st.just("volley"), st.lists(row, max_size=10))
    other = st.one_of(
        st.tuples(st.sampled_from(["submit", "claim"]), submitted),
        st.tuples(st.sampled_from(["resigned", "no-start", "accepted"]), some),
    )

    def each(of: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(of, min_size=games, max_size=games))

    return Play(
        weight=draw(st.lists(st.tuples(*[st.integers(-3, 3)] * 4), min_size=3, max_size=3)),
        bias=draw(st.lists(st.integers(-1, 1), min_size=3, max_size=3)),
        batch=draw(st.sampled_from([1, 3, 256])),
        x0=each(st.tuples(*[st.integers(4, 12)] * 4)),
        wrong=each(st.sampled_from([False] * 7 + [True])),
        offset=each(st.integers(1, 2)),
        key=draw(st.lists(st.integers(0, 99), min_size=games, max_size=games, unique=True)),
        threat={
            "norm": norm,
            "epsilon": draw(st.sampled_from(radii)),
            "budget": budget,
            "feedback": draw(st.sampled_from(["logits", "probabilities", "topk:2", "label"])),
            "goal": draw(st.sampled_from(["untargeted", "targeted"])),
            "objective": objective,
            "quantisation": draw(st.sampled_from(["none", "none", "round", "floor"])),
            "accounts": accounts,
        },
        memory=draw(st.sampled_from([None, "none", "game", "account", "service"])),
        random=draw(st.booleans()),
        seed=draw(st.integers(0, 3)),
        at=draw(st.lists(st.integers(1, 14), max_size=4)),
        votes=draw(st.sampled_from([1, 3])),
        moves=draw(st.lists(st.one_of(volley, volley, volley, other), max_size=6)),
    )


class Both:
    """One play before the Referee and before its naive double."""

    def __init__(self, play: Play, worlds: ModuleType, naive: ModuleType) -> None:
        self.play, self.worlds = play, worlds
        self.threat = Threat(**play.threat)
        self.x0 = worlds.images(play.x0)
        of = worlds.classifier(play.weight, play.bias, play.batch)
        seen = of(worlds.images(play.x0) if self.threat.quantisation == "none" else self._quantised(self.x0))
        label = [(int(y) + w) % 3 for y, w in zip(seen.argmax(dim=1), play.wrong, strict=True)]
        target = None
        if self.threat.targeted:
            target = [(y + o) % 3 for y, o in zip(label, play.offset, strict=True)]
        defenders = () if play.memory is None else (worlds.warden(play.memory, play.random),)
        self.oracle = StackOracle(
            Stack(of, defenders), seed=play.seed, games=len(play.x0), accounts=self.threat.accounts
        )
        self.record = MemoryListener()
        self.referee = Referee(
            self.oracle,
            worlds.deal(self.x0, label, key=play.key, target=target),
            self.threat,
            at=play.at,
            votes=play.votes,
            listener=self.record,
        )
        is_random = play.random and play.memory is not None
        service = naive.Service(play.weight, play.bias, play.memory, is_random, play.seed)
        self.naive = naive.NaiveReferee(
            service, self.threat, self.x0, label, target, play.key, at=play.at, votes=play.votes
        )

    def _quantised(self, x: Tensor) -> Tensor:
        return quantise(x, self.threat.quantisation)

    def image(self, game: int, delta: tuple[int, ...]) -> Tensor:
        moved = [min(16, max(0, p + d)) for p, d in zip(self.play.x0[game], delta, strict=True)]
        image: Tensor = self.worlds.images([moved])[0]
        return image

    def move(self, kind: str, what: Any) -> None:
        """Make a move before both and compare what was heard, and how the games stand."""
        if kind == "volley":
            self._volley(what)
            return
        if kind in ("submit", "claim"):
            images = [(game, self.image(game, delta)) for game, delta in what]
            x = torch.stack([x for _, x in images]) if images else self.x0[:0]
            move = Submit if kind == "submit" else Claim
            answers = self.referee.serve(move(x, self.worlds.index(*[g for g, _ in images])))
            (self.naive.submit if kind == "submit" else self.naive.claim)(images)
        elif kind == "accepted":
            answers = self.referee.serve(Note("accepted", 1.0, self.worlds.index(*what)))
            self.naive.accept(what)
        else:
            answers = self.referee.serve(Resign(self.worlds.index(*what), kind))  # type: ignore[arg-type]
            self.naive.resign(what, kind)
        self._compare_standing(answers)

    def _volley(self, what: list[tuple[int, int, tuple[int, ...]]]) -> None:
        rows = [(game, account, self.image(game, delta)) for game, account, delta in what]
        x = torch.stack([x for _, _, x in rows]) if rows else self.x0[:0]
        game = self.worlds.index(*[g for g, _, _ in rows])
        account = self.worlds.index(*[a for _, a, _ in rows])
        before = sum(book.queries for book in self.naive.books)
        answers = self.referee.serve(Volley(x, game, account, "test"))
        heard = self.naive.volley(rows)
        assert self.referee.granted == sum(book.queries for book in self.naive.books) - before
        assert answers.game.tolist() == game.tolist()
        assert answers.answered.tolist() == [h["answered"] for h in heard]
        assert answers.refused.tolist() == [h["refused"] for h in heard]
        assert answers.label.tolist() == [h["label"] for h in heard]
        if self.threat.feedback == "label":
            assert answers.scores is None
        else:
            expected = [shown(h["scores"], self.threat.feedback) for h in heard]
            torch.testing.assert_close(
                answers.scores, torch.tensor(expected).reshape(-1, 3), equal_nan=True, rtol=1e-6, atol=1e-6
            )
        self._compare_standing(answers)

    def _compare_standing(self, answers: Answers) -> None:
        books = self.naive.books
        is_open = [book.reason is None for book in books]
        assert answers.left.tolist() == [self.threat.budget - book.queries for book in books]
        assert answers.open.tolist() == is_open
        assert answers.playing.tolist() == [g for g, o in enumerate(is_open) if o]
        accounts = range(self.threat.accounts)
        assert answers.banned.tolist() == [[a in b.closed_accounts for a in accounts] for b in books]

    def compare_log(self) -> None:
        logs: list[list[dict[str, Any]]] = [[] for _ in self.play.x0]
        for row in self.worlds.log_of(self.record):
            logs[row.pop("game")].append(row)
        for log, book in zip(logs, self.naive.books, strict=True):
            assert [row.pop("purpose") for row in log] == ["test"] * len(log)
            for row, expected in zip(log, book.log, strict=True):
                assert row == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True)

    def compare_marks(self) -> None:
        marks = self.worlds.marks_of(self.record)
        expected = {
            (g, at): mark for g, book in enumerate(self.naive.books) for at, mark in book.marks.items()
        }
        assert marks.keys() == expected.keys()
        for where, mark in marks.items():
            for halves in ("wrong", "asked"):
                assert mark.pop(halves) == expected[where].pop(halves), where
            assert mark == pytest.approx(expected[where], rel=1e-6, abs=1e-6, nan_ok=True), where

    def compare_memory(self) -> None:
        """The warden remembers the rows that were kept, in order, and no others."""
        if not self.oracle.stateful:
            return
        expected = self.naive.service.trace
        found = self.oracle._memories[0].trace
        if self.play.memory != "service":  # in waves, but in order within each game
            expected, found = sorted(expected), sorted(found)
        assert found == expected

    def compare_ends(self, rows: GameRows) -> None:
        for game, expected in enumerate(self.naive.finish()):
            expected.pop("turn")
            found = {name: getattr(rows, name)[game] for name in expected if name not in ("reason", "final")}
            found = {name: value.tolist() for name, value in found.items()}
            assert rows.reason[game] == expected.pop("reason")
            assert rows.final[game].tolist() == expected.pop("final")
            for halves in ("wrong", "asked"):
                assert found.pop(halves) == expected.pop(halves)
            assert found == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True)


def shown(scores: list[float] | None, feedback: str) -> list[float]:
    """What the attacker sees; of logits that hold NaN, no probability is known, and NaN is shown first."""
    if scores is None:
        return [math.nan] * 3
    if feedback == "logits":
        return scores
    total = sum(math.exp(s) for s in scores)
    order = sorted(range(3), key=lambda k: (not math.isnan(scores[k]), -scores[k], k))
    visible = order[:2] if feedback == "topk:2" else order
    return [math.exp(s) / total if k in visible else 0.0 for k, s in enumerate(scores)]


@settings(max_examples=2 * settings().max_examples)
@given(play=plays())
def test_referee_keeps_the_books_that_the_rules_say(
    play: Play, worlds: ModuleType, naive: ModuleType
) -> None:
    both = Both(play, worlds, naive)
    for kind, what in play.moves:
        note(f"{kind} {what}")
        both.move(kind, what)
    rows = both.referee.finish()
    both.compare_log()
    both.compare_memory()
    both.compare_ends(rows)
    both.compare_marks()
    assert all(rows.queries <= both.threat.budget)
    assert both.record.game_rows is rows
