"""What attackers declare, how wrappers relay, whom rows belong to, and the simple forms of a defender."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from arena import draws
from arena.players import Attacker, Defender, Games, Needs, Response, Rows, relay
from arena.players.attacker import generator_only
from arena.players.parameters import parameters
from arena.rules.moves import Answers, Asking, Move, Note, Play, Volley, VolleyError
from arena.rules.threat import GrantedResources, NamedNetwork, Threat


@pytest.mark.parametrize(
    ("needs", "rules", "sentence"),
    [
        ({"feedback": "scores"}, {"feedback": "label"}, 'it needs scores; the threat\'s feedback is "label"'),
        ({"feedback": "logits"}, {"feedback": "label"}, 'it needs scores; the threat\'s feedback is "label"'),
        (
            {"feedback": "logits"},
            {"feedback": "probabilities"},
            'it needs logits; the threat\'s feedback is "probabilities"',
        ),
        ({"norms": ("l2",)}, {"norm": "linf"}, 'it plays norm "l2"; the threat\'s norm is "linf"'),
        (
            {"goals": ("untargeted",)},
            {"goal": "targeted"},
            'it plays goal "untargeted"; the threat\'s goal is "targeted"',
        ),
        (
            {"objectives": ("submit", "minimum")},
            {"objective": "first"},
            'it plays objective "submit", "minimum"; the threat\'s objective is "first"',
        ),
        (
            {"knowledge": "detector"},
            {"knowledge": "defense"},
            'it needs knowledge "detector"; the threat grants "defense"',
        ),
        (
            {"images": 3},
            {"resources": GrantedResources(images=2)},
            "it needs 3 images of its own; the threat grants 2",
        ),
        ({"starts": "always"}, {}, "it needs starting images; the threat grants none (resources.starts)"),
        (
            {"surrogates": 1},
            {},
            "it needs a reference network; the threat grants none (resources.surrogates)",
        ),
        (
            {"surrogates": 2},
            {"resources": GrantedResources(surrogates=(NamedNetwork(network="a"),))},
            "it needs 2 reference networks; the threat grants 1 (resources.surrogates)",
        ),
    ],
)
def test_what_a_threat_does_not_grant_is_said_in_a_sentence(
    needs: dict[str, Any], rules: dict[str, Any], sentence: str
) -> None:
    assert Needs(**needs).unmet(Threat(epsilon=1, budget=1, **rules)) == sentence


@pytest.mark.parametrize(
    ("needs", "rules"),
    [
        ({}, {"feedback": "label"}),
        ({"feedback": "scores"}, {"feedback": "topk:1"}),
        ({"feedback": "logits"}, {"feedback": "logits"}),
        ({"knowledge": "defense"}, {"knowledge": "weights"}),
        ({"knowledge": "weights"}, {"knowledge": "weights"}),
        ({"images": 3, "starts": "always"}, {"resources": GrantedResources(images=3, starts=True)}),
        ({"surrogates": 1}, {"resources": GrantedResources(surrogates=(NamedNetwork(network="a"),) * 2)}),
    ],
)
def test_what_a_threat_grants_is_enough(needs: dict[str, Any], rules: dict[str, Any]) -> None:
    assert Needs(**needs).unmet(Threat(epsilon=1, budget=1, **rules)) is None


# Relay


def answers_to(volley: Volley, mark: float = 0) -> Answers:
    n = len(volley.x)
    some = torch.ones(1, dtype=torch.int64)
    yes = torch.ones(n, dtype=torch.bool)
    scores = torch.full((n, 2), mark)
    return Answers(
        volley.game, volley.game, scores, yes, ~yes, some, some > 0, some * 0, (some > 1).view(1, 1)
    )


def volley(mark: float) -> Volley:
    return Volley(torch.full((1, 1, 2, 2), mark), torch.zeros(1, dtype=torch.int64))


def test_relay_lets_the_wrapper_answer_every_move() -> None:
    heard: list[float] = []

    def inner() -> Play:
        first = yield volley(1)
        assert first.scores is not None
        heard.append(first.scores[0, 0].item())
        noted = yield Note("k", "v", torch.zeros(1, dtype=torch.int64))
        heard.append(noted.left.item())
        last = yield volley(2)
        assert last.scores is not None
        heard.append(last.scores[0, 0].item())

    def thrice(move: Move) -> Asking:
        if not isinstance(move, Volley):
            return replace((yield move), left=torch.tensor([3]))
        total = torch.zeros(1, 2)
        for _ in range(3):
            answers = yield replace(move, purpose="again")
            assert answers.scores is not None
            total += answers.scores
        return replace(answers, scores=total)

    play = relay(inner(), thrice)
    moves, move = [], next(play)
    with pytest.raises(StopIteration):
        while True:
            moves.append(move)
            move = play.send(answers_to(move, 10) if isinstance(move, Volley) else answers_to(volley(0), 7))
    assert [type(m).__name__ for m in moves] == ["Volley"] * 3 + ["Note"] + ["Volley"] * 3
    assert heard == [30, 3, 30]


def test_relay_throws_a_volley_error_into_the_inner_attacker() -> None:
    caught: list[str] = []

    def inner() -> Play:
        try:
            yield volley(1)
        except VolleyError as error:
            caught.append(str(error))
        yield volley(2)

    def once(move: Move) -> Asking:
        return (yield move)

    play = relay(inner(), once)
    next(play)
    move = play.throw(VolleyError("no"))
    assert caught == ["no"]
    assert isinstance(move, Volley)
    assert move.x[0, 0, 0, 0] == 2
    with pytest.raises(VolleyError, match="not again"):
        play.throw(VolleyError("not again"))


def test_relay_of_an_attacker_without_moves_has_none() -> None:
    def inner() -> Play:
        return
        yield

    def never(move: Move) -> Asking:
        raise AssertionError
        yield

    assert list(relay(inner(), never)) == []


# Rows


def some_rows(n: int = 4, **given_: Any) -> Rows:
    i = torch.arange(n)
    return Rows(game=i, key=i * 7 + 3, turn=i + 1, account=i * 0, place=i, seed=11, **given_)


@given(st.integers(1, 4), st.integers(0, 15))
def test_rows_draw_by_seed_game_turn_and_stream(n: int, stream: int) -> None:
    rows = some_rows(n)
    for shape in ((), (3,), (1, 2, 2)):
        together = rows.uniform(shape, stream), rows.normal(shape, stream), rows.integers(5, shape, stream)
        for k in range(n):
            one = rows[torch.tensor([k])]
            alone = one.uniform(shape, stream), one.normal(shape, stream), one.integers(5, shape, stream)
            assert all(torch.equal(t[k : k + 1], a) for t, a in zip(together, alone, strict=True))
    assert torch.equal(
        rows.uniform((2,), stream), draws.uniform(11, rows.key, rows.turn, (2,), stream=stream)
    )


def test_streams_draws_turns_and_seeds_are_apart() -> None:
    rows = some_rows(1)
    found = [rows.uniform((2,), stream) for stream in range(16)]
    found += [replace(rows, draw=d).uniform((2,), s) for d in (1, 2) for s in (0, 15)]
    found += [replace(rows, turn=rows.turn + 1).uniform((2,)), replace(rows, seed=12).uniform((2,))]
    assert len({tuple(f.flatten().tolist()) for f in found}) == len(found)


@pytest.mark.parametrize("stream", [-1, 16])
def test_stream_out_of_range_is_refused(stream: int) -> None:
    draws: list[Callable[[Rows], Tensor]] = [
        lambda r: r.uniform((), stream),
        lambda r: r.normal((), stream),
        lambda r: r.integers(2, (), stream),
    ]
    for draw in draws:
        with pytest.raises(ValueError, match=f"stream must be from 0 to 15; found {stream}"):
            draw(some_rows())


def test_rows_are_selected_by_index_mask_and_slice() -> None:
    rows = some_rows().repeat(2)
    for chosen in (torch.tensor([5, 2]), torch.arange(8) % 3 == 0, slice(2, 5)):
        part = rows[chosen]
        for name in ("game", "key", "turn", "account", "place", "draw"):
            assert torch.equal(getattr(part, name), getattr(rows, name)[chosen]), name
        assert part.seed == 11
        assert len(part) == len(part.game)
    assert some_rows()[torch.tensor([1])].draw == 0


def test_repeats_of_a_row_stand_side_by_side_with_draws_of_their_own() -> None:
    rows = some_rows(2).repeat(3)
    assert rows.key.tolist() == [3, 3, 3, 10, 10, 10]
    assert rows.place.tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.as_tensor(rows.draw).tolist() == [0, 1, 2, 0, 1, 2]
    again = rows.repeat(2)
    assert torch.as_tensor(again.draw).tolist() == [0, 1, 2, 3, 4, 5] * 2
    draws = again.uniform((2,))
    assert len({tuple(d.tolist()) for d in draws}) == 12


# Defenders


@dataclass(frozen=True)
class Plus(Defender):
    """Adds to the images and to the scores, and flags what it sees."""

    by: float = 1

    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        return x + self.by

    def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
        return scores.nan_to_num(nan=100, posinf=100) + self.by

    def watch(self, x: Tensor, rows: Rows, response: Response) -> Response:
        return replace(response, flagged=x.flatten(1).sum(dim=1) > 0)


def sums(x: Tensor, rows: Rows) -> Response:
    total = x.flatten(1).sum(dim=1, keepdim=True)
    return Response(torch.cat([total, -total], dim=1), refused=total.squeeze(1) > 8)


def test_simple_defenders_transform_rewrite_and_watch() -> None:
    x = torch.tensor([0.0, 0.0, 1.0, 2.0]).view(4, 1, 1, 1).expand(4, 1, 2, 2)
    response = Plus().respond(x, some_rows(), sums)
    assert response.scores.tolist() == [[5, -3], [5, -3], [9, -7], [13, -11]]
    assert response.flagged.tolist() == [False, False, True, True]  # of x as it came
    assert response.refused.tolist() == [False, False, False, True]


def test_scores_that_are_not_finite_pass_by_unchanged() -> None:
    x = torch.tensor([1.0, math.inf, math.nan]).view(3, 1, 1, 1)
    scores = Plus().respond(x, some_rows(3), sums).scores
    assert scores[0].tolist() == [3, -1]
    assert scores[1].tolist() == [math.inf, -math.inf]
    assert scores[2].isnan().all()
    partly = torch.tensor([[math.nan, 1.0], [2.0, math.inf], [3.0, 4.0]])
    found = Plus().respond(x, some_rows(3), lambda z, rows: Response(partly)).scores
    assert str(found.tolist()) == str([[math.nan, 1.0], [2.0, math.inf], [4.0, 5.0]])


def test_scores_that_give_no_label_pass_by_unchanged() -> None:
    alike = torch.tensor([[2.0, 2.0, 2.0], [2.0, 2.0, 1.0]])
    found = Plus().respond(torch.rand(2, 1, 1, 1), some_rows(2), lambda z, rows: Response(alike)).scores
    assert found.tolist() == [[2, 2, 2], [3, 3, 2]]


def test_plain_defender_changes_nothing() -> None:
    x = torch.rand(3, 1, 2, 2)
    response = Defender().respond(x, some_rows(3), sums)
    assert torch.equal(response.scores, sums(x, some_rows(3)).scores)
    assert Defender().start((1, 1, 2, 2), 1, torch.device("cpu")) is None
    assert Defender().facts() == {}
    defender = Defender()
    assert defender.state() == {}
    assert defender.restore({}, None) is defender  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError, match="Defender has no detector"):
        Defender().detector(x, None)  # type: ignore[arg-type]


# Parameters


@dataclass(frozen=True)
class Wrapper(Attacker):
    of: Attacker
    sizes: tuple[float, ...] = (1, 2)
    cache: int = field(default=0, init=False)

    def play(self, games: Games) -> Play:
        return
        yield


def test_parameters_are_plain_values_with_agents_inside() -> None:
    @dataclass(frozen=True)
    class Leaf(Wrapper):
        of: Any = None

    found = parameters(Wrapper(of=Leaf(sizes=()), sizes=(0.5,)))
    assert found == {"of": {"agent": "Leaf", "of": None, "sizes": []}, "sizes": [0.5]}
    assert parameters(Plus(2)) == {"by": 2}


def test_play_must_be_a_generator(worlds: ModuleType) -> None:
    def moves() -> Generator[Any, Any, None]:
        yield 1

    play = moves()
    assert generator_only(play) is play
    for other in (None, [1], iter([1]), moves):
        with pytest.raises(TypeError, match=f"yields moves; it returned {type(other).__name__}"):
            generator_only(other)
