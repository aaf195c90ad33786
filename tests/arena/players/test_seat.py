"""An attacker's seat: how it asks, what it keeps of the answers, and the seats it makes for others."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from arena.players.seat import Games, Resources, join, restrict
from arena.rules.moves import Answers, Claim, Consult, Move, Note, Resign, Submit, Volley, VolleyError
from arena.rules.threat import Threat

K = 3


def standing(is_open: list[bool], left: list[int] | None = None) -> Answers:
    opened = torch.tensor(is_open)
    none = torch.zeros(0, dtype=torch.int64)
    return Answers(
        game=none,
        label=none,
        scores=None,
        answered=none.bool(),
        refused=none.bool(),
        left=torch.tensor(left or [9] * len(is_open)),
        open=opened,
        playing=opened.nonzero().squeeze(1),
        banned=torch.zeros(len(is_open), 1, dtype=torch.bool),
    )


def seat(games: int = 4, *, feedback: str = "logits", max_rows: int = 4, **more: Any) -> Games:
    threat = more.pop("threat", None) or Threat(epsilon=2 / 16, budget=9, feedback=feedback)
    x0 = torch.linspace(0.2, 0.8, games).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()
    label = torch.arange(games) % K
    state = more.pop("state", None) or standing([True] * games)
    return Games(x0, label, threat, classes=K, state=state, max_rows=max_rows, **more)


class Host:
    """Answers everything; row scores tell the row's first pixel; closes the games it is told to close."""

    def __init__(self, games: Games) -> None:
        self.moves: list[Any] = []
        self.open = [True] * len(games)
        self.close_after: dict[int, int] = {}
        self.scored = games.threat.feedback != "label"

    def __call__(self, move: Move) -> Answers:
        self.moves.append(move)
        state = standing(self.open)
        if isinstance(move, Consult):
            return replace(state, insight=move.x * 2, loss=move.x[:, 0, 0, 0])
        if not isinstance(move, Volley):
            return state
        answered = state.open[move.game]
        if len(self.moves) in self.close_after:
            self.open[self.close_after[len(self.moves)]] = False
        first = move.x[:, 0, 0, :1].expand(-1, K)
        return replace(
            standing(self.open),
            game=move.game,
            label=torch.where(answered, 1, -1),
            scores=torch.where(answered.unsqueeze(1), first, torch.nan) if self.scored else None,
            answered=answered,
            refused=torch.zeros_like(answered),
        )


def drive(asking: Generator[Move, Answers, Answers], host: Callable[[Move], Answers]) -> Answers:
    try:
        move = next(asking)
        while True:
            move = asking.send(host(move))
    except StopIteration as stop:
        answers: Answers = stop.value
        return answers


def rows(n: int) -> Tensor:
    return torch.arange(n).view(-1, 1, 1, 1).expand(-1, 1, 2, 2) / 16


def test_a_short_list_is_one_volley_as_given() -> None:
    games = seat()
    host = Host(games)
    x, i, account = rows(3), torch.tensor([2, 0, 2]), torch.zeros(3, dtype=torch.int64)
    answers = drive(games.ask(x, i, "probe", account), host)
    (move,) = host.moves
    assert (move.x is x, move.game is i, move.account is account, move.purpose) == (True, True, True, "probe")
    assert games.state is answers


def test_without_an_index_all_games_are_asked_in_order() -> None:
    games = seat()
    host = Host(games)
    drive(games.ask(rows(4)), host)
    assert host.moves[0].game.tolist() == [0, 1, 2, 3]
    assert host.moves[0].account is None


@pytest.mark.parametrize("n", [4, 5, 8, 11])
@pytest.mark.parametrize("feedback", ["logits", "label"])
def test_a_long_list_is_cut_and_its_answers_joined(n: int, feedback: str) -> None:
    games = seat(feedback=feedback)
    host = Host(games)
    i = torch.arange(n) % 4
    answers = drive(games.ask(rows(n), i, "probe", i * 0), host)
    assert [len(m.x) for m in host.moves] == [4] * (n // 4) + [n % 4] * (n % 4 > 0)
    assert torch.cat([m.x for m in host.moves]).equal(rows(n))
    assert torch.cat([m.game for m in host.moves]).equal(i)
    assert all(len(m.account) == len(m.x) and m.purpose == "probe" for m in host.moves)
    assert answers.game.equal(i)
    assert answers.label.tolist() == [1] * n
    assert answers.answered.tolist() == [True] * n
    if feedback == "label":
        assert answers.scores is None
    else:
        assert answers.scores is not None
        assert answers.scores[:, 0].equal(rows(n)[:, 0, 0, 0])


@pytest.mark.parametrize("feedback", ["logits", "label"])
def test_pieces_of_closed_games_are_not_sent(feedback: str) -> None:
    """Game by game, 20 rows each; game 0 closes in the second piece."""
    games = seat(2, feedback=feedback)
    host = Host(games)
    host.close_after = {2: 0}
    i = torch.arange(2).repeat_interleave(20)
    answers = drive(games.ask(rows(40), i), host)
    assert [m.game.unique().tolist() for m in host.moves] == [[0]] * 2 + [[1]] * 5
    assert answers.answered.tolist() == [True] * 8 + [False] * 12 + [True] * 20
    assert answers.label.tolist() == [1] * 8 + [-1] * 12 + [1] * 20
    assert answers.refused.tolist() == [False] * 40
    if answers.scores is not None:
        assert answers.scores.isnan().any(dim=1).tolist() == [not a for a in answers.answered.tolist()]
    assert games.open.tolist() == [1]


@pytest.mark.parametrize(
    ("images", "games_", "accounts"), [(10, 12, None), (10, 9, None), (10, 10, 9), (10, 4, None)]
)
def test_a_long_list_that_does_not_fit_its_games_is_refused_before_a_row_is_sent(
    images: int, games_: int, accounts: int | None
) -> None:
    games = seat(max_rows=5)
    host = Host(games)
    account = None if accounts is None else torch.zeros(accounts, dtype=torch.int64)
    with pytest.raises(VolleyError, match=f"found {images} images, {games_} games"):
        drive(games.ask(rows(images), torch.zeros(games_, dtype=torch.int64), "", account), host)
    assert host.moves == []


@pytest.mark.parametrize("feedback", ["logits", "label"])
def test_nothing_to_ask_is_not_sent_and_answers_like_no_rows(feedback: str) -> None:
    games = seat(feedback=feedback, state=standing([True, False, True, True]))
    none = torch.zeros(0, dtype=torch.int64)
    host = Host(games)
    drive(games.consult(rows(4)), host)
    host.moves.clear()
    games.state = replace(games.state, repeats=torch.zeros(2, 4, K))
    for asking in (
        games.ask(rows(0), none),
        games.submit(rows(0), none),
        games.resign(none),
        games.note("k", 1.0, none),
    ):
        answers = drive(asking, host)
        assert (len(answers.game), len(answers.label), len(answers.answered), len(answers.refused)) == (
            0,
            0,
            0,
            0,
        )
        assert (answers.repeats, answers.insight, answers.loss) == (None, None, None)
        assert answers.open.equal(games.state.open)
    assert host.moves == []
    answers = drive(games.ask(rows(0), none), host)
    if feedback == "logits":
        assert games.loss(answers).shape == (0,)
    assert games.wrong(answers).shape == (0,)


def test_fooling_skips_the_games_that_are_closed_by_now() -> None:
    games = seat(max_rows=99)  # the labels are 0, 1, 2, 0; the host answers 1
    host = Host(games)
    host.close_after[1] = 2

    def fools(i: list[int]) -> Any:
        return drive(games.fools(rows(len(i)), torch.tensor(i), "step"), host)  # type: ignore[arg-type]

    assert fools([0, 1, 2, 0]).tolist() == [True, False, True, True]
    assert fools([2, 3, 2, 1]).tolist() == [False, True, False, False]
    assert fools([2]).tolist() == [False]
    assert [move.game.tolist() for move in host.moves] == [[0, 1, 2, 0], [3, 1]]
    assert host.moves[1].x.tolist() == rows(4)[[1, 3]].tolist()
    assert host.moves[1].purpose == "step"


def test_other_moves_are_passed_as_given() -> None:
    games = seat()
    host = Host(games)
    i = torch.tensor([3, 1])
    drive(games.submit(rows(2), i), host)
    drive(games.claim(rows(2), i), host)
    drive(games.resign(i), host)
    drive(games.resign(i, "no-start"), host)
    drive(games.note("radius", torch.tensor([0.5, 0.25]), i), host)
    submit, claim, resign, no_start, note = host.moves
    assert isinstance(submit, Submit)
    assert submit.game is i
    assert isinstance(claim, Claim)
    assert claim.game is i
    assert isinstance(resign, Resign)
    assert (resign.reason, no_start.reason) == ("resigned", "no-start")
    assert isinstance(note, Note)
    assert isinstance(note.value, Tensor)
    assert (note.key, note.value.tolist()) == ("radius", [0.5, 0.25])


@pytest.mark.parametrize("n", [0, 3, 4, 9])
def test_consulting_is_cut_and_its_insight_joined(n: int) -> None:
    games = seat()
    host = Host(games)
    answers = drive(games.consult(rows(n), torch.arange(n) % 4, "gradient", "cross-entropy"), host)
    assert [len(m.x) for m in host.moves] == ([4] * (n // 4) + [n % 4] * (n % 4 > 0) or [0])
    assert all((m.what, m.loss) == ("gradient", "cross-entropy") for m in host.moves)
    assert answers.insight is not None
    assert answers.insight.equal(rows(n) * 2)
    assert answers.loss is not None
    assert answers.loss.equal(rows(n)[:, 0, 0, 0])


@given(st.integers(0, 300), st.integers(0, 20), st.integers(1, 50))
def test_parts_cover_the_count_within_max_rows(count: int, games: int, max_rows: int) -> None:
    parts = list(seat(max_rows=max_rows).parts(count, games))
    assert sum(parts) == count
    assert all(p > 0 and (p == 1 or p * games <= max_rows) for p in parts)
    assert len(parts) == -(-count // max(1, max_rows // max(1, games)))


# Loss


def answers(game: list[int], scores: list[list[float]] | None, **more: Any) -> Answers:
    n = len(game)
    given_ = {
        "game": torch.tensor(game),
        "label": torch.zeros(n, dtype=torch.int64),
        "scores": None if scores is None else torch.tensor(scores, dtype=torch.float32),
        "answered": torch.ones(n, dtype=torch.bool),
    }
    return replace(standing([True] * 4), **{**given_, **more})


def test_margin_is_that_of_each_rows_game() -> None:
    heard = answers([2, 0, 0], [[1, 2, 4], [1, 2, 4], [5, 0, 0]])
    assert seat().loss(heard).tolist() == [2, -3, 5]  # labels of games 0, 1, 2 are 0, 1, 2


def test_targeted_loss_falls_as_the_target_gains() -> None:
    threat = Threat(epsilon=1, budget=9, goal="targeted")
    games = seat(threat=threat, target=torch.tensor([1, 2, 0, 1]))
    assert games.loss(answers([0, 2], [[1, 2, 4], [1, 2, 4]])).tolist() == [2, 3]
    entropy = games.loss(answers([0], [[1, 2, 4]]), "cross-entropy").item()
    total = sum(math.exp(s) for s in (1, 2, 4))
    assert entropy == pytest.approx(-math.log(math.exp(2) / total), rel=1e-5)


def test_cross_entropy_of_probabilities_takes_their_log() -> None:
    games = seat(feedback="probabilities")
    assert games.loss(answers([1], [[0.5, 0.25, 0.25]]), "cross-entropy").item() == pytest.approx(
        math.log(0.25)
    )
    assert games.loss(answers([1], [[1.0, 0.0, 0.0]]), "cross-entropy").isfinite()


def test_unanswered_rows_and_nan_lose() -> None:
    heard = answers(
        [0, 0, 0, 0],
        [[1, 2, 4], [1, 2, 4], [1, math.nan, 0], [math.nan] * 3],
        answered=torch.tensor([True, False, True, True]),
    )
    assert seat().loss(heard).tolist() == [-3, math.inf, math.inf, math.inf]
    assert seat().loss(heard, "cross-entropy")[1:].tolist() == [math.inf] * 3


def test_repeats_give_the_mean_loss_of_those_that_hold_no_nan() -> None:
    repeats = torch.tensor([[[1.0, 2, 4], [1, 0, 0]], [[1, 3, 2], [math.nan, 0, 0]]])  # [M=2,n=2,K]
    heard = answers([0, 1], [[9.0, 9, 9], [9, 9, 9]], repeats=repeats)
    assert seat().loss(heard).tolist() == [(-3 - 2) / 2, -1]
    every = answers([0, 1], [[9.0, 9, 9], [9, 9, 9]], repeats=torch.full((2, 2, 3), math.nan))
    assert seat().loss(every).tolist() == [math.inf, math.inf]


def test_loss_needs_scores() -> None:
    with pytest.raises(ValueError, match='a loss needs scores; the feedback of this game is "label"'):
        seat(feedback="label").loss(answers([0], None))


def test_loss_does_not_write_to_the_answers() -> None:
    heard = answers([0], [[math.nan, 1, 2]])
    seat().loss(heard)
    assert heard.scores is not None
    assert heard.scores[0, 0].isnan()


def test_a_declined_answer_is_not_wrong() -> None:
    label = torch.tensor([-1, 0, 1, 2])
    heard = answers([0, 0, 0, 0], None, label=label)
    assert seat().wrong(heard).tolist() == [False, False, True, True]
    games = seat(target=torch.tensor([2, 0, 0, 0]), threat=Threat(epsilon=1, budget=1, goal="targeted"))
    assert games.wrong(heard).tolist() == [False, False, False, True]


def test_projection_and_distance_are_about_the_games_named() -> None:
    games = seat()
    i = torch.tensor([3, 0])
    x = torch.ones(2, 1, 2, 2)
    projected = games.project(x, i)
    torch.testing.assert_close(projected, (games.x0[i] + 2 / 16).clamp(0, 1))
    torch.testing.assert_close(
        games.distance(projected, i), (projected - games.x0[i]).abs().amax(dim=(1, 2, 3))
    )
    assert games.project(games.x0).equal(games.x0)


# Draws


def test_draws_are_keyed_to_the_game_and_to_how_often_it_drew() -> None:
    keys = torch.tensor([10, 20, 30, 40])
    together, other = (seat(key=keys, seed=5) for _ in range(2))
    all_three = [together.uniform((2,)) for _ in range(3)]
    assert len({tuple(row.tolist()) for draw in all_three for row in draw}) == 12
    i = torch.tensor([2, 0])
    for draw in all_three:
        assert other.uniform((2,), i).equal(draw[i])
    alone = seat(1, key=keys[3:], seed=5)
    assert [alone.uniform((2,)).tolist() for _ in range(3)] == [draw[3:].tolist() for draw in all_three]


def test_kinds_of_draws_have_their_shapes_and_ranges() -> None:
    games = seat(seed=1)
    i = torch.tensor([1])
    assert games.uniform((), i).shape == (1,)
    assert games.normal((1, 2, 2)).shape == (4, 1, 2, 2)
    found = games.integers(3, (1000,))
    assert (found.dtype, found.shape, set(found.flatten().tolist())) == (torch.int64, (4, 1000), {0, 1, 2})
    assert not seat(seed=2).uniform((8,)).equal(seat(seed=1).uniform((8,)))


# Seats for others


def test_a_seat_of_some_games_numbers_them_from_0() -> None:
    state = replace(
        standing([True, False, True, True], [4, 3, 2, 1]),
        banned=torch.tensor([[False], [True], [False], [True]]),
    )
    starts = torch.rand(4, 1, 2, 2)
    target = torch.tensor([2, 0, 1, 1])
    games = seat(
        state=state,
        target=target,
        key=torch.tensor([5, 6, 7, 8]),
        resources=Resources(starts=starts),
        defense={"name": "d"},
    )
    i = torch.tensor([3, 1])
    inner = games.take(i)
    assert len(inner) == 2
    assert inner.x0.equal(games.x0[i])
    assert inner.label.tolist() == games.label[i].tolist()
    assert inner.target is not None
    assert inner.target.tolist() == [1, 0]
    assert inner.key.tolist() == [8, 6]
    assert inner.left.tolist() == [1, 3]
    assert inner.open.tolist() == [0]
    assert inner.state.banned.tolist() == [[True], [True]]
    assert inner.resources.starts is not None
    assert inner.resources.starts.equal(starts[i])
    assert (inner.classes, inner.max_rows, inner.defense) == (K, 4, {"name": "d"})
    inner.x0.zero_()
    assert games.x0.min() > 0


def test_a_seat_with_a_budget_of_its_own() -> None:
    games = seat(state=standing([True, True, False, True], [9, 2, 5, 4]))
    inner = games.with_budget(3)
    assert inner.threat.budget == 3
    assert inner.left.tolist() == [3, 2, 3, 3]
    assert inner.open.equal(games.open)
    assert games.left.tolist() == [9, 2, 5, 4]
    assert inner.key.equal(games.key)


def test_every_seat_draws_apart() -> None:
    games = seat(seed=3)
    inner = [games.take(torch.arange(4)), games.take(torch.arange(4)), games.with_budget(2), games]
    draws = [g.uniform((4,)) for g in inner]
    assert len({tuple(d.flatten().tolist()) for d in draws}) == 4
    assert seat(seed=3).take(torch.arange(4)).uniform((4,)).equal(draws[0])


def test_joined_answers_stand_as_the_last_and_hold_all_rows() -> None:
    first = answers(
        [0, 1], [[1.0, 2, 3], [4, 5, 6]], repeats=torch.ones(2, 2, K), refused=torch.tensor([True, False])
    )
    last = answers(
        [2],
        [[7.0, 8, 9]],
        repeats=torch.zeros(2, 1, K),
        left=torch.tensor([1, 1, 1, 1]),
        refused=torch.tensor([False]),
    )
    found = join([first, last])
    assert found.game.tolist() == [0, 1, 2]
    assert found.scores is not None
    assert found.scores[:, 0].tolist() == [1, 4, 7]
    assert found.repeats is not None
    assert found.repeats.shape == (2, 3, K)
    assert found.refused.tolist() == [True, False, False]
    assert found.left.tolist() == [1, 1, 1, 1]
    assert join([last]) is last


def test_restricted_standing_has_no_rows() -> None:
    found = restrict(
        replace(standing([True, False, True]), scores=torch.zeros(0, 2)), torch.tensor([1, 2, 0])
    )
    assert found.open.tolist() == [False, True, True]
    assert found.playing.tolist() == [1, 2]
    assert len(found.game) == len(found.answered) == 0


def test_a_seat_before_a_referee_cuts_asks_and_hears(worlds: ModuleType) -> None:
    referee, record = worlds.referee(threat=Threat(epsilon=1 / 16, budget=5), max_rows=3)
    games = referee.seat(seed=1)
    assert (games.max_rows, games.classes, len(games)) == (3, 3, 2)
    i = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1])
    heard = drive(games.ask(games.x0[i], i, "probe"), referee.serve)
    assert heard.answered.tolist() == [True] * 5 + [False] * 2 + [True] * 2
    assert games.left.tolist() == [0, 3]
    assert games.open.tolist() == [1]
    assert [len(q) for q in record.query_rows] == [3, 2, 2]
