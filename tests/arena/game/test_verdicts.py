"""Verdicts: honest about defenders that flip and lie, fair to the image handed in, given at every mark."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from arena import draws
from arena.game.referee import Referee
from arena.players import Defender, Response, Rows
from arena.rules.moves import Claim, Resign, Submit, Volley
from arena.rules.threat import Quantisation, Threat


@dataclass(frozen=True)
class Withholding(Defender):
    """Withholds every answer in one of the three ways."""

    how: Literal["declined", "refused", "banned"] = "declined"

    def watch(self, x: Tensor, rows: Rows, response: Response) -> Response:
        return Response(response.scores, **{self.how: torch.ones(len(x), dtype=torch.bool)})


@dataclass(frozen=True)
class Closing(Defender):
    """Right until it has answered two rows of the game, wrong from then on."""

    memory: ClassVar[Literal["none", "game", "account", "service"]] = "game"

    def start(self, shape: tuple[int, int, int, int], accounts: int, device: torch.device) -> Tensor:
        return torch.zeros(shape[0], dtype=torch.int64)

    def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
        return torch.where((rows.memory[rows.game] > 1).unsqueeze(1), scores.roll(1, dims=1), scores)

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        rows.memory[rows.game] += 1


def many(worlds: ModuleType, n: int) -> Tensor:
    """n games on images that the classifier answers with one of its classes."""
    found: Tensor = worlds.images([(4 + k % 8, 4 + k // 8 % 8, 6, 10) for k in range(n)])
    return found


def ask_clean(referee: Referee, times: int = 1) -> None:
    for _ in range(times):
        i = torch.from_numpy(referee.open.nonzero()[0])
        if len(i):
            referee.serve(Volley(referee.board.x0[i], i))


THREAT = Threat(epsilon=4 / 16, budget=10)


def test_a_defender_that_always_lies_gives_hits_that_the_classifier_does_not(worlds: ModuleType) -> None:
    referee, record = worlds.referee([worlds.Flip(1.0)], threat=THREAT)
    ask_clean(referee)
    rows = referee.finish()
    assert rows.reason == ["hit", "hit"]
    assert rows.answered.tolist() == [True, True]
    assert rows.vote.tolist() == [1.0, 1.0]
    assert rows.base.tolist() == [False, False]
    assert rows.linf.tolist() == [0, 0]
    assert worlds.marks_of(record)[0, 0] | dict.fromkeys(("again", "l2", "linf", "query_l2"), 0) == {
        "turn": 0,
        "answered": False,
        "vote": 1.0,
        "wrong": [13, 12],
        "asked": [13, 12],
        "again": 0,
        "base": False,
        "l2": 0,
        "linf": 0,
        "query_l2": 0,
    }


def test_a_lucky_hit_on_a_random_defender_is_answered_but_not_voted(worlds: ModuleType) -> None:
    x0 = many(worlds, 64)
    referee, _ = worlds.referee([worlds.Flip(0.2)], threat=Threat(epsilon=1 / 16, budget=60), x0=x0)
    ask_clean(referee, 60)
    rows = referee.finish()
    assert rows.answered.all()
    assert not rows.base.any()
    assert abs(rows.vote.mean() - 0.2) < 4 * (0.16 / (64 * 25)) ** 0.5
    assert rows.vote.max() < 0.6


def test_vote_is_the_share_of_draws_that_belong_to_the_verdict_alone(worlds: ModuleType) -> None:
    x0 = many(worlds, 40)
    _, record = worlds.referee([worlds.Flip(0.5)], threat=THREAT, x0=x0, seed=9, key=range(70, 110))
    found = [mark["vote"] for mark in worlds.marks_of(record).values()]
    seed = draws.derive(draws.derive(9, 0), "verdict")
    game = torch.arange(70, 110)
    drawn = [draws.uniform(seed, game, 0, (), stream=16 * draw) < 0.5 for draw in range(25)]
    assert found == (torch.stack(drawn).sum(dim=0) / 25.0).double().mul(25).round().div(25).tolist()


def test_vote_does_not_repeat_the_draw_that_was_answered(worlds: ModuleType) -> None:
    x0 = many(worlds, 64)
    referee, _ = worlds.referee([worlds.Flip(0.5)], threat=THREAT, x0=x0, votes=1)
    ask_clean(referee)
    rows = referee.finish()
    agree = float(np.mean(rows.answered == (rows.vote == 1)))
    assert 0.25 < agree < 0.75


def test_a_deterministic_defender_is_asked_once(worlds: ModuleType) -> None:
    referee, _ = worlds.referee([worlds.warden()], threat=THREAT, votes=25)
    assert referee.judge.votes == 1
    assert referee.judge.rows == 2 * (1 + 1)
    referee, _ = worlds.referee([worlds.Flip()], threat=THREAT, votes=25)
    assert referee.judge.rows == 2 * (1 + 25)


def test_an_image_is_judged_once_for_as_long_as_it_stands(worlds: ModuleType) -> None:
    threat = THREAT.model_copy(update={"objective": "submit"})
    referee, record = worlds.referee(threat=threat, at=range(1, 11))
    ask_clean(referee)
    rows = referee.judge.rows
    ask_clean(referee, 9)
    referee.finish()
    assert referee.judge.rows == rows
    assert len(worlds.marks_of(record)) == 2 * 11


def test_a_mark_tells_how_far_the_query_there_was_or_the_last_one(worlds: ModuleType) -> None:
    """Of two games that ask 4 queries in one volley, the second ends at its hit, the third."""
    referee, record = worlds.referee(threat=THREAT, at=[2, 3, 4])
    clean = referee.board.x0
    moved = [clean[0] + 0.01 * k for k in range(1, 5)]
    hit = worlds.images([(9, 9, 9, 9)])[0]
    x = torch.stack([*moved, *[clean[1] + 0.01 * k for k in (3, 1)], hit, clean[1]])
    referee.serve(Volley(x, torch.tensor([0] * 4 + [1] * 4)))
    referee.finish()
    marks = worlds.marks_of(record)
    far = [[marks[game, at]["query_l2"] for at in (2, 3, 4)] for game in range(2)]
    size = clean[0].numel() ** 0.5
    assert np.isnan(marks[0, 0]["query_l2"])
    assert far[0] == pytest.approx([0.02 * size, 0.03 * size, 0.04 * size], rel=1e-4)


def test_who_asks_again_is_answered_by_what_is_remembered_and_votes_are_not(worlds: ModuleType) -> None:
    """And is asked anew only where something may have been remembered since."""
    threat = THREAT.model_copy(update={"objective": "submit"})
    referee, record = worlds.referee([Closing()], threat=threat, at=[1, 2])
    assert referee.judge.rows == 2 * 2
    ask_clean(referee, 2)
    marks = worlds.marks_of(record)
    assert [marks[0, at]["turn"] for at in (0, 1, 2)] == [0, 1, 1]
    assert [marks[0, at]["vote"] for at in (0, 1, 2)] == [0, 0, 0]
    assert np.isnan(marks[0, 0]["again"])
    assert [marks[0, at]["again"] for at in (1, 2)] == [0, 1]
    assert referee.judge.rows == 2 * (2 + 2) + 2 * 2  # judged at 0 and at 1, asked again at 1 and at 2
    rows = referee.finish()
    assert referee.judge.rows == 2 * (2 + 2) + 2 * 2
    assert rows.vote.tolist() == [0, 0]
    assert rows.again.tolist() == [1, 1]
    assert not rows.base.any()


def test_verdicts_leave_no_trace_and_cost_nothing(worlds: ModuleType) -> None:
    referee, record = worlds.referee([worlds.warden("service", random=True)], threat=THREAT, at=[1, 2])
    assert referee.oracle._memories[0].trace == []
    ask_clean(referee)
    referee.serve(Submit(referee.board.x0, torch.arange(2)))
    rows = referee.finish()
    assert (
        len(referee.oracle._memories[0].trace) == 2 == rows.queries.sum() == sum(map(len, record.query_rows))
    )
    assert rows.insider_queries.tolist() == [0, 0]


@pytest.mark.parametrize("how", ["declined", "refused", "banned"])
def test_withheld_answers_win_no_vote(worlds: ModuleType, how: Any) -> None:
    referee, _ = worlds.referee([Withholding(how)], threat=THREAT)
    wrong = worlds.images([(5, 7, 8, 4), (8, 8, 4, 8)])
    assert worlds.truth(wrong, worlds.classifier()) == [1, 0]
    referee.serve(Submit(wrong, torch.arange(2)))
    rows = referee.finish()
    assert rows.base.tolist() == [True, True]
    assert rows.vote.tolist() == [0, 0]
    assert rows.answered.tolist() == [False, False]


def wrong_by(worlds: ModuleType, sixteenths: int) -> tuple[Tensor, Tensor]:
    """Two clean images, and images at this linf distance from them that the classifier gets wrong."""
    s = sixteenths
    x0 = worlds.images([(8, 6, 8, 8), (7, 8, 8, 8)])
    x = worlds.images([(8 - s, 6 + s, 8, 8), (7 + s, 8 - s, 8, 8)])
    of = worlds.classifier()
    assert all(a != b for a, b in zip(worlds.truth(x0, of), worlds.truth(x, of), strict=True))
    return x0, x


@pytest.mark.parametrize("objective", ["submit", "minimum"])
def test_an_image_outside_the_ball_never_wins(worlds: ModuleType, objective: Any) -> None:
    x0, x = wrong_by(worlds, 5)
    threat = THREAT.model_copy(update={"objective": objective})
    for submit in (False, True):
        referee, record = worlds.referee(threat=threat, x0=x0, at=[1, 5])
        answers = referee.serve(Volley(x, torch.arange(2)))
        assert answers.label.tolist() == worlds.truth(x, worlds.classifier())
        if submit:
            referee.serve(Submit(x, torch.arange(2)))
        rows = referee.finish()
        assert not (rows.answered.any() or rows.base.any() or rows.vote.any() or rows.hit_at.any())
        assert np.isnan(rows.l2).all()
        assert rows.final.tolist() == (x if submit or objective == "minimum" else x0).tolist()
        assert all(m["vote"] == 0 and not m["base"] for m in worlds.marks_of(record).values())


def test_an_image_inside_the_ball_wins_by_all_three(worlds: ModuleType) -> None:
    x0, x = wrong_by(worlds, 4)
    referee, _ = worlds.referee(threat=THREAT, x0=x0)
    referee.serve(Volley(x, torch.arange(2)))
    rows = referee.finish()
    assert rows.answered.tolist() == rows.base.tolist() == [True, True]
    assert rows.vote.tolist() == [1, 1]
    assert rows.linf.tolist() == [0.25, 0.25]
    assert rows.l2.tolist() == pytest.approx([0.125**0.5] * 2)


def test_what_is_judged_is_the_image_handed_in(worlds: ModuleType) -> None:
    """Not the best that was seen; and a distance is reported only where it wins."""
    x0, x = wrong_by(worlds, 4)
    threat = THREAT.model_copy(update={"objective": "submit"})
    referee, record = worlds.referee(threat=threat, x0=x0, at=[1, 3, 6])
    referee.serve(Volley(x, torch.arange(2)))
    referee.serve(Volley(x0, torch.arange(2)))
    handed_in = torch.stack([x0[0], x[1]])
    referee.serve(Submit(handed_in, torch.arange(2)))
    rows = referee.finish()
    assert rows.final.tolist() == handed_in.tolist()
    assert rows.answered.tolist() == [True, True]
    assert rows.vote.tolist() == [0, 1]
    assert rows.base.tolist() == [False, True]
    assert np.isnan(rows.linf).tolist() == [True, False]
    marks = worlds.marks_of(record)
    assert [marks[0, at]["vote"] for at in (0, 1, 3, 6)] == [0, 1, 0, 0]
    assert [marks[0, at]["turn"] for at in (0, 1, 3, 6)] == [0, 1, 2, 2]
    assert [marks[0, at]["linf"] == 0.25 for at in (0, 1, 3, 6)] == [False, True, False, False]
    assert [marks[1, at]["base"] for at in (0, 1, 3, 6)] == [False, True, True, True]


def test_a_claim_stands_instead_of_the_luckiest_answer_of_a_random_defender(worlds: ModuleType) -> None:
    """Every answer is a lie: the clean image would be the nearest hit there is."""
    x0, x = wrong_by(worlds, 4)
    threat = Threat(epsilon="inf", budget=6, objective="minimum")
    referee, record = worlds.referee([worlds.Flip(1.0)], threat=threat, x0=x0, at=[1, 2, 4])
    ask_clean(referee)
    near = (x0 + x) / 2
    referee.serve(Claim(x, torch.arange(2)))
    ask_clean(referee)
    assert referee.board.ledger.best_turn.tolist() == [1, 1]
    referee.serve(Claim(near, torch.arange(2)))
    ask_clean(referee, 4)
    rows = referee.finish()
    marks = worlds.marks_of(record)
    assert [marks[0, at]["linf"] for at in (1, 2, 4)] == [0, 0.25, 0.125]
    assert [marks[0, at]["base"] for at in (1, 2, 4)] == [False, True, bool(rows.base[0])]
    assert rows.final.tolist() == near.tolist()
    assert rows.reason == ["budget", "budget"]


@pytest.mark.parametrize("objective", ["submit", "minimum"])
def test_a_claim_that_wins_no_vote_has_no_distance(worlds: ModuleType, objective: Any) -> None:
    x0, x = wrong_by(worlds, 3)
    threat = THREAT.model_copy(update={"objective": objective})
    referee, _ = worlds.referee([worlds.Flip(0.0)], threat=threat, x0=x0)
    referee.serve(Volley(x, torch.arange(2)))
    referee.serve(Claim(torch.stack([x0[0], x[1]]), torch.arange(2)))
    rows = referee.finish()
    assert rows.answered.tolist() == [True, True]
    assert rows.vote.tolist() == [0, 1]
    assert np.isnan(rows.linf).tolist() == [True, False]


@pytest.mark.parametrize(("defended", "objective"), [(False, "minimum"), (False, "submit"), (True, "first")])
def test_claims_change_nothing_where_answers_are_facts_or_the_first_hit_ends_the_game(
    worlds: ModuleType, defended: bool, objective: Any
) -> None:
    x0, x = wrong_by(worlds, 4)
    threat = THREAT.model_copy(update={"objective": objective})
    stack = [worlds.Flip(0.0)] if defended else []
    referee, _ = worlds.referee(stack, threat=threat, x0=x0)
    referee.serve(Claim(x0, torch.arange(2)))
    referee.serve(Volley(x, torch.arange(2)))
    referee.serve(Claim(x0, torch.arange(2)))
    rows = referee.finish()
    assert rows.final.tolist() == x.tolist()
    assert rows.base.tolist() == [True, True]


def test_a_claim_for_a_game_that_closed_is_too_late(worlds: ModuleType) -> None:
    x0, x = wrong_by(worlds, 4)
    threat = THREAT.model_copy(update={"objective": "minimum"})
    referee, _ = worlds.referee([worlds.Flip(0.0)], threat=threat, x0=x0)
    referee.serve(Volley(x, torch.arange(2)))
    referee.serve(Resign(torch.tensor([0])))
    referee.serve(Claim(x0, torch.arange(2)))
    assert referee.finish().final.tolist() == torch.stack([x[0], x0[1]]).tolist()


def test_an_image_is_judged_and_kept_as_the_service_gets_it(worlds: ModuleType) -> None:
    """0.4 of a level beyond the boundary is taken back by `round`, 0.9 of one by `floor`."""
    taken_back: list[tuple[Quantisation, float]] = [("round", 0.4), ("floor", 0.9)]
    for how, share in taken_back:
        threat = Threat(epsilon=4 / 255, budget=3, objective="submit", quantisation=how)
        x0 = torch.tensor([128, 129, 100, 100]).view(1, 1, 2, 2) / 255
        of = worlds.classifier(((0,) * 4, (255, -255, 0, 0), (0,) * 4), (0, 0, -9))  # 1 where x_1 > x_2
        assert worlds.truth(x0, of) == [0]
        wrong, right = x0.clone(), x0.clone()
        wrong[0, 0, 0, 0] += 2 / 255
        right[0, 0, 0, 0] += (1 + share) / 255
        assert worlds.truth(torch.cat([wrong, right]), of) == [1, 1]
        for x, base in ((wrong, True), (right, False)):
            referee, _ = worlds.referee(threat=threat, x0=x0, of=of)
            referee.serve(Submit(x, torch.zeros(1, dtype=torch.int64)))
            rows = referee.finish()
            assert rows.base.tolist() == [base]
            assert rows.vote.tolist() == [float(base)]
            final = torch.from_numpy(rows.final)
            assert ((final * 255).round() / 255).equal(final)
            assert (worlds.truth(final, of) == [1]) is base
            assert (final.equal(x)) is base


def test_targeted_votes_are_for_the_target(worlds: ModuleType) -> None:
    x0, x = wrong_by(worlds, 4)
    found = worlds.truth(x, worlds.classifier())
    target = [found[0], 2]
    threat = THREAT.model_copy(update={"goal": "targeted", "objective": "submit"})
    referee, _ = worlds.referee(threat=threat, x0=x0, target=target)
    referee.serve(Submit(x, torch.arange(2)))
    rows = referee.finish()
    assert rows.vote.tolist() == [1, 0]
    assert rows.base.tolist() == [True, False]
    assert rows.target.tolist() == target


def test_every_game_has_every_mark(worlds: ModuleType) -> None:
    """Clean ones, hit ones, submitted ones and those that went on; none beyond the budget."""
    x0 = worlds.images([(8, 6, 8, 8), (7, 8, 8, 8), (8, 4, 8, 4), (4, 12, 4, 8)])
    label = worlds.truth(x0, worlds.classifier())
    label[2] = (label[2] + 1) % 3
    _, x = wrong_by(worlds, 4)
    referee, record = worlds.referee(threat=THREAT, x0=x0, label=label, at=[7, 2, 2, 5, 0, 11, 10, -1])
    referee.serve(Volley(torch.cat([x0[[0, 0, 0]], x[:1]]), torch.zeros(4, dtype=torch.int64)))
    referee.serve(Submit(x0[3:], torch.tensor([3])))
    referee.serve(Volley(x0[[1]].repeat(10, 1, 1, 1), torch.ones(10, dtype=torch.int64)))
    before = len(worlds.marks_of(record))
    rows = referee.finish()
    assert rows.reason == ["hit", "budget", "clean", "submitted"]
    marks = worlds.marks_of(record)
    assert marks.keys() == {(g, at) for g in range(4) for at in (0, 2, 5, 7, 10)}
    assert before == 4 + 1 + 4
    assert [marks[0, at]["answered"] for at in (0, 2, 5, 7, 10)] == [False, False, True, True, True]
    assert [marks[0, at]["base"] for at in (0, 2, 5, 7, 10)] == [False, False, True, True, True]
    assert [marks[2, at]["base"] for at in (0, 2, 5, 7, 10)] == [True] * 5
    assert [marks[2, at]["vote"] for at in (0, 2, 5, 7, 10)] == [1] * 5
    assert not any(marks[2, at]["answered"] for at in (0, 2, 5, 7, 10))


@pytest.mark.parametrize("max_rows", [1, 7, 60, 4096])
def test_verdicts_in_pieces_are_those_of_one_piece(worlds: ModuleType, max_rows: int) -> None:
    x0 = many(worlds, 12)
    settings: dict[str, Any] = {"threat": THREAT, "x0": x0, "votes": 5}
    whole, _ = worlds.referee([worlds.Flip(0.4), worlds.Noise(0.2)], **settings)
    cut, _ = worlds.referee([worlds.Flip(0.4), worlds.Noise(0.2)], **settings, max_rows=max_rows)
    assert cut.finish().vote.tolist() == whole.finish().vote.tolist()


def test_some_games_may_be_summed_up_before_others(worlds: ModuleType) -> None:
    referee, record = worlds.referee(threat=THREAT, at=[4], key=[30, 40])
    ask_clean(referee)
    referee.serve(Resign(torch.tensor([1])))
    rows = referee.end(np.array([1]))
    assert (rows.game.tolist(), rows.key.tolist(), rows.reason) == ([1], [40], ["resigned"])
    assert worlds.marks_of(record).keys() == {(0, 0), (1, 0), (1, 4)}
    assert referee.open.tolist() == [True, False]
    kept = rows.final.copy()
    referee.board.best.zero_()
    assert (rows.final == kept).all()


@dataclass(frozen=True)
class Saying(Defender):
    """Answers the same scores to everything."""

    scores: tuple[float, ...] = (0.0, 0.0, 0.0)

    def respond(self, x: Tensor, rows: Rows, inner: Any) -> Response:
        return Response(torch.tensor(self.scores).repeat(len(x), 1))


@pytest.mark.parametrize("feedback", ["logits", "probabilities", "topk:2", "label"])
@pytest.mark.parametrize("goal", ["untargeted", "targeted"])
@pytest.mark.parametrize(
    ("scores", "hit"),
    [
        ((0.0, 0.0, 0.0), False),
        ((torch.inf,) * 3, False),
        ((-torch.inf,) * 3, False),
        ((-torch.inf, torch.inf, torch.inf), False),
        ((torch.nan, 1.0, 2.0), False),
        ((-torch.inf, 1.0, 1.0), True),
        ((0.0, torch.inf, torch.inf), True),
    ],
)
def test_scores_that_give_no_label_win_no_game_by_any_verdict(
    worlds: ModuleType, scores: tuple[float, ...], hit: bool, goal: str, feedback: str
) -> None:
    """The game's label is 0, so that the first index would be wrong beside it, and the target is 1."""
    threat = Threat(epsilon=4 / 16, budget=3, goal=goal, feedback=feedback)
    target = [1] if goal == "targeted" else None
    settings = {"threat": threat, "x0": worlds.images([(8, 4, 8, 4)]), "label": [0], "target": target}
    referee, record = worlds.referee([Saying(scores)], **settings)
    answers = referee.serve(Volley(referee.board.x0, worlds.index(0)))
    assert answers.label.tolist() == [1 if hit else -1]
    if not hit and answers.scores is not None:
        assert answers.scores.isnan().all()
    rows = referee.finish()
    assert (rows.reason[0] == "hit", rows.answered[0], rows.wrong[0].sum() > 0) == (hit, hit, hit)
    assert not rows.base[0]
    (logged,) = worlds.log_of(record)
    assert (logged["label"], logged["hit"]) == (1 if hit else -1, hit)


def test_a_game_that_the_classifier_gives_no_label_is_over_before_it_begins(worlds: ModuleType) -> None:
    settings = {"x0": worlds.images([(8, 8, 8, 8)]), "label": [0]}
    referee, _ = worlds.referee(of=worlds.classifier([(0, 0, 0, 0)] * 3, [1, 1, 1]), **settings)
    assert referee.finish().reason == ["clean"]
