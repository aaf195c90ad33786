from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from agents.attackers.score.query_net import Crew, QueryNet, shares
from agents.attackers.score.square import Square
from arena.rules.threat import Threat

SHAPE = (1, 8, 8)
SMALL = QueryNet(
    p=0.3, depths=(0, 1), width=8, first_batches=50, batches=10, batch=32, least_images=4, pairs=1000
)
QUICK = dataclasses.replace(SMALL, width=4, first_batches=3, batches=1, batch=8, least_images=1)


def perceptron(shape, classes=4, hidden=32):
    """A network with one hidden layer, its weights drawn."""
    generator, pixels = torch.Generator().manual_seed(0), torch.Size(shape).numel()
    first = torch.randn(pixels, hidden, generator=generator) * (4 / pixels**0.5)
    second = torch.randn(hidden, classes, generator=generator)
    return lambda x, game, turn: ((x.flatten(1) - 0.5) @ first).relu() @ second


def deal(model, x0):
    return model(x0, None, None).argmax(dim=1)


def seat(referee, linear, images, games=3, norm="linf", goal="untargeted", classes=4):
    """A seat in games of a linear classifier, and the classifier."""
    model, x0 = linear(SHAPE, classes), images(games, SHAPE, low=0.4, high=0.6)
    label, target = deal(model, x0), None
    if goal == "targeted":
        target = (label + 1) % classes
    threat = Threat(norm=norm, epsilon=0.1 if norm == "linf" else 0.5, budget=10, goal=goal)
    return referee(model, x0, label, threat, target=target).seat, model


@pytest.mark.parametrize("kind", ["linear", "perceptron"])
def test_it_needs_half_of_squares_queries_on_the_same_images(referee, linear, images, kind):
    model = linear(SHAPE, 4) if kind == "linear" else perceptron(SHAPE)
    x0, threat = images(40, SHAPE, low=0.2, high=0.8), Threat(epsilon=0.08, budget=50)
    label = deal(model, x0)
    needed = {}
    for attacker in (SMALL, Square(p=SMALL.p, clean_query=True)):
        table = referee(model, x0, label, threat).play(attacker)
        needed[type(attacker)] = np.array([hits[0] if hits else 51 for hits in table.hits])
    ours, squares = needed[QueryNet], needed[Square]
    assert ours.mean() < 0.6 * squares.mean()
    assert (ours < squares).sum() > 3 * (ours > squares).sum()


def test_it_asks_the_clean_image_the_stripes_and_then_one_candidate_a_step(referee, linear, images):
    model, x0 = linear(SHAPE, 4), images(3, SHAPE)
    table = referee(model, x0, deal(model, x0), Threat(epsilon=0.001, budget=7)).play(QUICK)
    for game in range(3):
        assert table.purposes(game) == ["clean", "start", *["search"] * 5]
        clean, start = table.queries(game)[:2]
        assert torch.equal(clean, x0[game])
        assert (start - clean).abs().amax() <= 0.001 + 1e-6
    assert table.volleys == [3] * 7


def test_a_share_is_of_the_candidates_chosen_and_none_of_too_few():
    chosen = torch.tensor([0] * 4 + [1] * 5 + [3] * 2)
    lower = torch.tensor([1, 0, 0, 0, 1, 1, 1, 0, 0, 1, 1], dtype=torch.bool)
    assert shares(chosen, lower, 4, 4).tolist() == pytest.approx([0.25, 0.6, 0.0, 0.0])
    assert shares(chosen, lower, 4, 2).tolist() == pytest.approx([0.25, 0.6, 0.0, 1.0])


def test_candidates_are_judged_by_the_weighted_mean_of_the_surrogates_losses(referee, linear, images):
    games, _ = seat(referee, linear, images)
    crew = Crew(QUICK, games)
    i = torch.arange(3)
    candidates = torch.stack([games.x0, games.x0 + 0.01, games.x0 - 0.01])

    def answering(value):  # own class `value` above all others
        def logits(x):
            return torch.nn.functional.one_hot(games.label.repeat(3), 4) * value

        return SimpleNamespace(logits=logits)

    crew.surrogates = [answering(2.0), answering(-1.0)]
    crew.weights = torch.tensor([0.5, 0.25, 0.9])
    assert torch.allclose(crew.judge(candidates, i), torch.full((3, 3), (0.5 * 2 - 0.25) / 2))
    crew.surrogates = [answering(float("nan")), answering(-1.0)]
    assert crew.judge(candidates, i).isposinf().all()


def test_the_candidate_asked_for_is_the_one_judged_lowest(referee, linear, images, monkeypatch):
    games, model = seat(referee, linear, images)
    crew = Crew(QUICK, games)
    crew.hear(games.x0, answers_of(model, games))
    judged = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.5, 2.0], [0.5, 0.5, 1.0]])
    monkeypatch.setattr(crew, "judge", lambda candidates, i: judged)
    monkeypatch.setattr(crew, "descend", lambda s, x, i: x + crew.surrogates.index(s) + 1)
    monkeypatch.setattr(crew.squares, "propose", lambda t, x, i: x + 3)
    got = crew.propose(0, games.x0, torch.arange(3))
    assert crew.chosen.tolist() == [1, 0, 2]
    assert torch.allclose(got - games.x0, torch.tensor([2.0, 1.0, 3.0]).view(3, 1, 1, 1).expand_as(got))


def answers_of(model, games):
    n = len(games)
    given = torch.ones(n, dtype=torch.bool)
    return SimpleNamespace(scores=model(games.x0, None, None), answered=given)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("goal", ["untargeted", "targeted"])
def test_a_step_down_a_linear_surrogate_ends_at_the_best_point_of_the_ball(
    referee, linear, images, norm, goal
):
    """For a linear score with two classes the best perturbation is known: epsilon sign(w), epsilon w/|w|."""
    games, model = seat(referee, linear, images, norm=norm, goal=goal, classes=2)
    crew, i = Crew(QUICK, games), torch.arange(3)
    surrogate = crew.surrogates[0]
    surrogate.network = torch.nn.Flatten()
    surrogate._logits = lambda x: model(x, None, None)
    w = model.weight[1 - games.label] - model.weight[games.label]
    away = w.sign() if norm == "linf" else w / w.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    got = crew.descend(surrogate, games.x0, i)
    # From another corner of the ball, too, a step as long as the ball is wide goes all the way in linf.
    assert torch.allclose(got, games.x0 + games.epsilon * away, atol=1e-5)
    if norm == "linf":
        assert torch.allclose(crew.descend(surrogate, games.x0 - games.epsilon * away, i), got, atol=1e-6)


def test_surrogates_stop_for_good_once_squares_do_as_well(referee, linear, images, monkeypatch):
    games, model = seat(referee, linear, images, games=4)
    crew, i = Crew(dataclasses.replace(QUICK, least_images=2), games), torch.arange(4)
    crew.hear(games.x0, answers_of(model, games))
    crew.chosen = torch.tensor([0, 0, 2, 2])
    low, high = torch.zeros(4), torch.ones(4)
    crew.accept(torch.where(torch.tensor([True, True, True, False]), low, high), high, i)
    assert not crew.retired and crew.weights.tolist() == [1.0, 0.0, 0.5]
    crew.accept(low, high, i)  # as good as the best surrogate
    assert crew.retired and len(crew.pairs) == len(crew.pairs.x) == 0, "nothing is kept that is not used"
    monkeypatch.setattr(crew, "train", lambda: pytest.fail("trained"))
    got = crew.propose(1, games.x0, i)
    assert crew.chosen is None and not torch.equal(got, games.x0)
    crew.accept(low, high, i)
    crew.hear(games.x0, answers_of(model, games))
    assert crew.retired and len(crew.pairs) == 0


def test_with_fewer_games_than_least_images_it_is_square_from_the_second_step(referee, linear, images):
    model, x0 = linear(SHAPE, 4), images(3, SHAPE)
    attacker = dataclasses.replace(QUICK, least_images=4)
    table = referee(model, x0, deal(model, x0), Threat(epsilon=0.001, budget=7)).play(attacker)
    assert [note for note in table.notes if note[0] == "surrogates"] == [
        ("surrogates", g, 3) for g in range(3)
    ]


def test_the_same_seed_plays_the_same_and_leaves_the_global_generator_alone(referee, linear, images):
    model, x0 = linear(SHAPE, 4), images(6, SHAPE)
    label, threat = deal(model, x0), Threat(epsilon=0.001, budget=8)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = referee(model, x0, label, threat, seed=3).play(QUICK)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = (referee(model, x0, label, threat, seed=seed).play(QUICK) for seed in (3, 4))
    for game in range(6):
        assert torch.equal(one.queries(game), again.queries(game))
        assert not torch.equal(one.queries(game), other.queries(game))


def test_what_is_learnt_in_one_game_changes_how_another_is_played(referee, linear, images):
    model, x0 = linear(SHAPE, 4), images(6, SHAPE)
    label, threat = deal(model, x0), Threat(epsilon=0.001, budget=4)
    together = referee(model, x0, label, threat).play(QUICK)
    alone = referee(model, x0[:1], label[:1], threat).play(QUICK)
    assert QUICK.across_games
    assert not torch.equal(together.queries(0), alone.queries(0))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("objective", ["first", "submit"])
def test_queries_stay_in_ball_and_box(whole_games, norm, objective):
    epsilon = 0.2 if norm == "linf" else 1.0
    threat = Threat(norm=norm, epsilon=epsilon, budget=8, objective=objective)
    for x, x0 in whole_games(QUICK, threat, (3, 5, 7)):
        distance = torch.linalg.vector_norm((x - x0).flatten(1), ord=2 if norm == "l2" else torch.inf, dim=1)
        assert distance.max() <= epsilon + 1e-6
        assert x.min() >= 0 and x.max() <= 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"p": 0.0},
        {"depths": ()},
        {"depths": (-1,)},
        {"width": 0},
        {"batch": 1},
        {"batches": 0},
        {"learning_rate": 0.0},
        {"refresh_every": -1},
        {"pairs": 0},
    ],
)
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        QueryNet(**wrong)


def test_it_needs_scores():
    assert "scores" in (QueryNet().needs.unmet(Threat(epsilon=0.1, budget=1, feedback="label")) or "")
