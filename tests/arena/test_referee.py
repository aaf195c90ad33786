"""The Referee and its Ledger against the rules told row by row (naive.py), and its promises one by one."""

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

from arena.geometry import quantise
from arena.match import play_games
from arena.moves import Answers, Consult, Note, Resign, Submit, Volley, VolleyError
from arena.oracle import Oracle, Stack
from arena.players import Defender, Games
from arena.players import Play as Moves
from arena.referee import Referee
from arena.threat import Threat
from arena.transcript import GameRows, Record

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
        st.tuples(st.just("submit"), submitted),
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
        self.oracle = Oracle(
            Stack(of, defenders), seed=play.seed, games=len(play.x0), accounts=self.threat.accounts
        )
        self.record = Record()
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
        if kind == "submit":
            images = [(game, self.image(game, delta)) for game, delta in what]
            x = torch.stack([x for _, x in images]) if images else self.x0[:0]
            answers = self.referee.serve(Submit(x, self.worlds.index(*[g for g, _ in images])))
            self.naive.submit(images)
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
            found = {name: value.item() for name, value in found.items()}
            assert rows.reason[game] == expected.pop("reason")
            assert rows.final[game].tolist() == expected.pop("final")
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


# A game does not know which others are played beside it


def random_search(games: Games) -> Moves:
    """Keyed steps, kept where the loss falls; two rows a game and volley."""
    x = games.x0.clone()
    loss = games.loss((yield from games.ask(x, purpose="start")))
    while len(i := games.open):
        step = 0.2 * games.normal((2, *x.shape[1:]), i)
        candidates = games.project((x[i].unsqueeze(1) + step).flatten(0, 1), i.repeat_interleave(2))
        answers = yield from games.ask(candidates, i.repeat_interleave(2), "step")
        new, which = games.loss(answers).view(-1, 2).min(dim=1)
        better = new < loss[i]
        x[i[better]] = candidates.view(-1, 2, *x.shape[1:])[better, which[better]]
        loss[i[better]] = new[better]


WORLD = [(8, 6, 9, 4), (6, 8, 4, 4), (9, 7, 4, 8), (6, 9, 5, 4), (8, 5, 5, 5)]


def transcripts(
    worlds: ModuleType, stack: list[Defender], places: list[int], **settings: Any
) -> dict[int, list[Any]]:
    """All that was reported of each game, by its number."""
    settings = {"threat": Threat(epsilon="2/16", budget=25, objective="submit"), "at": [4, 9], **settings}
    x0 = worlds.images([WORLD[place] for place in places])
    referee, record = worlds.referee(stack, x0=x0, key=[10 + place for place in places], seed=4, **settings)
    rows = play_games(worlds.Scripted(random_search), referee, seed=7)
    found: dict[int, list[Any]] = {10 + place: [] for place in places}
    number = rows.key.tolist()
    for row in worlds.log_of(record):
        found[number[row.pop("game")]].append(str(row))
    for (game, at), mark in worlds.marks_of(record).items():
        found[number[game]].append(f"{at} {mark}")
    for game in range(len(rows)):
        ends = [
            getattr(rows, name)[game] for name in ("reason", "queries", "refused", "hit_at", "l2", "linf")
        ]
        found[number[game]].append(str([*ends, rows.vote[game], rows.final[game].tolist()]))
    return {key: sorted(lines) for key, lines in found.items()}


@pytest.mark.parametrize("stack", ["", "noise", "memory", "all"])
@pytest.mark.parametrize("objective", ["first", "submit", "minimum"])
def test_a_game_leaves_the_same_transcript_alone_and_among_others(
    worlds: ModuleType, stack: str, objective: Any
) -> None:
    layers: dict[str, list[Defender]] = {
        "": [],
        "noise": [worlds.Noise(0.1)],
        "memory": [worlds.warden("game", random=True)],
        "all": [worlds.Noise(0.1), worlds.warden("account"), worlds.Flip(0.1)],
    }
    threat = Threat(epsilon="2/16", budget=25, objective=objective)
    together = transcripts(worlds, layers[stack], [0, 1, 2, 3, 4], threat=threat)
    assert sum(map(len, together.values())) > 30
    for places in ([3, 1, 0, 4, 2], [2, 0], [1]):
        assert transcripts(worlds, layers[stack], places, threat=threat).items() <= together.items()
    for of in (worlds.classifier(batch=1), worlds.classifier(batch=3)):
        assert transcripts(worlds, layers[stack], [0, 1, 2, 3, 4], threat=threat, of=of) == together


def test_volleys_may_be_cut_anywhere(worlds: ModuleType) -> None:
    whole = transcripts(worlds, [worlds.Noise(0.1)], [0, 1, 2, 3, 4])
    for max_rows in (2, 3, 7):
        assert transcripts(worlds, [worlds.Noise(0.1)], [0, 1, 2, 3, 4], max_rows=max_rows) == whole


# The two halves


@pytest.mark.parametrize("quantisation", ["none", "round"])
def test_receive_and_release_are_an_answer_in_two_halves(worlds: ModuleType, quantisation: Any) -> None:
    threat = Threat(epsilon="2/16", budget=5, quantisation=quantisation, objective="submit")
    whole, record = worlds.referee([worlds.Noise()], threat=threat)
    halves, in_halves = worlds.referee([worlds.Noise()], threat=threat)
    x, game = worlds.images([(8, 5, 8, 4), (4, 12, 5, 8), (7, 5, 8, 4)]), torch.tensor([0, 1, 0])
    expected = whole.answer(Volley(x.clone(), game.clone(), None, "p"))
    pending = halves.receive(Volley(x, game, None, "p"))
    x.zero_()  # the attacker may go on writing to its own
    game.zero_()
    answers = halves.release(pending, halves.oracle.respond(pending.x, pending.rows))
    assert answers.scores.tolist() == expected.scores.tolist()
    assert answers.game.tolist() == [0, 1, 0]
    assert list(worlds.log_of(in_halves)) == list(worlds.log_of(record))
    assert halves.finish().final.tolist() == whole.finish().final.tolist()


def test_halves_let_a_defender_remember_only_what_was_kept(worlds: ModuleType) -> None:
    referee, _ = worlds.referee([worlds.warden("game")], threat=Threat(epsilon="2/16", budget=2))
    x, game = worlds.images([(8, 4, 8, 4), (4, 12, 4, 8)])[[0, 0, 1, 0, 0]], torch.tensor([0, 0, 1, 0, 0])
    pending = referee.receive(Volley(x, game))
    answers = referee.release(pending, referee.oracle.respond(pending.x, pending.rows))
    assert referee.granted == 3
    assert answers.left.tolist() == [0, 1]
    assert [line[:2] for line in referee.oracle._memories[0].trace] == [(0, 1), (0, 2), (1, 1)]


def test_rows_of_closed_games_are_not_put_to_a_defender_with_memory(worlds: ModuleType) -> None:
    asked = []

    class Counting(type(worlds.warden("game"))):  # type: ignore[misc]
        def respond(self, x: Tensor, rows: Any, inner: Any) -> Any:
            asked.append(rows.slot.tolist())
            return super().respond(x, rows, inner)

    referee, _ = worlds.referee([Counting()], threat=Threat(epsilon="2/16", budget=2))
    referee.serve(Resign(torch.tensor([1])))
    asked.clear()
    referee.serve(Volley(referee.x0[[0, 1, 0, 1, 0]], torch.tensor([0, 1, 0, 1, 0])))
    assert asked == [[0], [0]]


def test_a_defender_that_writes_to_its_images_does_not_write_to_the_attackers(worlds: ModuleType) -> None:
    class Writing(worlds.Flip):  # type: ignore[misc,name-defined]
        def transform(self, x: Tensor, rows: Any) -> Tensor:
            return x.add_(0.25)

    referee, _ = worlds.referee([Writing()])
    seat = referee.seat()
    before = seat.x0.clone()
    referee.serve(Volley(seat.x0, torch.arange(2)))
    assert seat.x0.equal(before)
    assert referee.x0.equal(before)


def test_a_clean_image_is_charged(worlds: ModuleType) -> None:
    referee, _ = worlds.referee()
    answers = referee.serve(Volley(referee.x0, torch.arange(2)))
    assert answers.left.tolist() == [9, 9]


# Insiders


@pytest.mark.parametrize(
    ("knowledge", "detector", "gradient"),
    [("none", False, False), ("defense", False, False), ("detector", True, False), ("weights", True, True)],
)
def test_insiders_are_served_as_their_knowledge_allows_and_metered(
    worlds: ModuleType, knowledge: Any, detector: bool, gradient: bool
) -> None:
    class Watched(worlds.Flip):  # type: ignore[misc,name-defined]
        def detector(self, x: Tensor, classifier: Any) -> Tensor:
            return x.flatten(1).sum(dim=1)

    referee, record = worlds.referee([Watched()], threat=Threat(epsilon=1, budget=3, knowledge=knowledge))
    x, game = worlds.images([(8, 4, 8, 4)] * 3), torch.tensor([1, 0, 1])
    evaluations = 0
    for what, allowed in (("detector", detector), ("gradient", gradient)):
        consult = Consult(x, game, what)  # type: ignore[arg-type]
        if not allowed:
            with pytest.raises(
                VolleyError, match=f'^knowledge "{knowledge}" does not allow to consult the {what}$'
            ):
                referee.serve(consult)
            continue
        answers = referee.serve(consult)
        evaluations += 1
        assert answers.insight is not None
        assert answers.insight.shape == (x.shape if what == "gradient" else (3,))
        assert answers.left.tolist() == [3, 3]
    assert referee.finish().insider_queries.tolist() == [evaluations, 2 * evaluations]
    assert record.query_rows == []


@pytest.mark.parametrize("targeted", [False, True])
def test_an_insiders_gradient_is_that_of_its_games_loss(worlds: ModuleType, targeted: bool) -> None:
    """Of the classifier alone: of z_0 - z_1 = 8 (x_0 - x_1) in game 0, and of its negative in game 1."""
    rules: dict[str, Any] = {"goal": "targeted"} if targeted else {}
    referee, _ = worlds.referee(
        [worlds.Flip(1.0)],
        threat=Threat(epsilon=1, budget=3, knowledge="weights", **rules),
        x0=worlds.images([(8, 6, 4, 8), (6, 8, 4, 8)]),
        target=[1, 0] if targeted else None,
        of=worlds.smooth(),
    )
    answers = referee.serve(Consult(referee.x0, torch.arange(2), "gradient"))
    assert answers.insight is not None
    own = torch.tensor([[8.0, -8, 0, 0], [-8, 8, 0, 0]])
    assert answers.insight.flatten(1).equal(own)


# New games in the places of ended ones


def test_a_game_dealt_anew_begins_anew(worlds: ModuleType) -> None:
    threat = Threat(epsilon="2/16", budget=3, goal="targeted", objective="submit")
    referee, record = worlds.referee([worlds.Flip(0.5)], threat=threat, target=[2, 2], key=[7, 8], at=[2])
    referee.serve(Volley(referee.x0.repeat(3, 1, 1, 1), torch.arange(2).repeat(3)))
    first = referee.end(torch.tensor([0]).numpy())
    heard = len(record.mark_rows)
    dealt = worlds.deal(worlds.images([(4, 10, 8, 8)]), [1], key=[99], target=[0])
    referee.redeal(torch.tensor([0]).numpy(), dealt)
    assert record.mark_rows[heard].game.tolist() == [0]
    assert record.mark_rows[heard].at == 0
    answers = referee.serve(Volley(dealt.x0, torch.tensor([0])))
    assert answers.left.tolist() == [2, 0]
    assert answers.open.tolist() == [True, False]
    alone, other = worlds.referee(
        [worlds.Flip(0.5)], threat=threat, x0=dealt.x0, label=[1], target=[0], key=[99], at=[2]
    )
    alone.serve(Volley(dealt.x0, torch.tensor([0])))
    assert list(worlds.log_of(record))[-1] == list(worlds.log_of(other))[-1]
    rows, expected = referee.end(torch.tensor([0]).numpy()), alone.finish()
    for name in (
        "key",
        "label",
        "target",
        "queries",
        "vote",
        "base",
        "answered",
        "hit_at",
        "final",
        "reason",
    ):
        assert str(getattr(rows, name)) == str(getattr(expected, name)), name
    assert first.key.tolist() == [7]
    assert first.queries.tolist() == [3]
