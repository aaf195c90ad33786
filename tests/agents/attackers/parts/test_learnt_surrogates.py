from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from agents.attackers.parts.learnt_surrogates import Pairs, ResidualNet, Surrogate
from arena.rules.threat import Threat

SHAPE = (1, 8, 8)


@pytest.fixture
def games(referee, linear, images):
    """make(G, **rules): a seat in games of a linear classifier with 4 classes."""

    def make(count=40, **rules):
        model, x0 = linear(SHAPE, 4), images(count, SHAPE, low=0.2, high=0.8)
        threat = Threat(epsilon=0.1, budget=10, **rules)
        made = referee(model, x0, model(x0, None, None).argmax(dim=1), threat).seat
        made.model = model
        return made

    return make


def told(scores, answered=None):
    given = torch.ones(len(scores), dtype=torch.bool) if answered is None else torch.tensor(answered)
    return SimpleNamespace(scores=scores, answered=given)


def mean_squared_loss(logits, y):
    return logits.gather(1, y.unsqueeze(1)).squeeze(1)


def test_pairs_hold_what_was_answered_and_forget_the_oldest(games):
    seat = games(3)
    pairs = Pairs(seat, 4)
    scores = torch.tensor([[1.0, 3.0, 0.0, 0.0], [torch.nan] * 4, [2.0, 2.0, 2.0, 6.0]])
    pairs.add(seat, seat.x0, told(scores, [True, True, False]))
    assert len(pairs) == 1 and torch.equal(pairs.x[0], seat.x0[0])
    assert pairs.z[0].tolist() == [0.0, 2.0, -1.0, -1.0]
    every = torch.rand(6, *SHAPE)
    pairs.add(seat, every[:3], told(torch.eye(4)[:3]))
    assert len(pairs) == 4
    pairs.add(seat, every[3:], told(torch.eye(4)[:3]))
    assert len(pairs) == 4
    held = {tuple(x.flatten().tolist()) for x in pairs.x}
    assert held == {tuple(x.flatten().tolist()) for x in every[2:]}


def test_more_at_once_than_are_kept_leave_the_last(games):
    seat = games(3)
    pairs, every = Pairs(seat, 2), torch.rand(5, *SHAPE)
    pairs.add(seat, every, told(torch.rand(5, 4)))
    held = {tuple(x.flatten().tolist()) for x in pairs.x}
    assert held == {tuple(x.flatten().tolist()) for x in every[3:]}


def test_no_more_memory_is_taken_than_the_games_can_fill(games):
    assert len(Pairs(games(3), 10_000).x) == 30


@pytest.mark.parametrize("feedback", ["probabilities", "topk:2"])
def test_probabilities_teach_what_logits_teach(games, feedback):
    logits, seats = torch.randn(5, 4), (games(5), games(5, feedback=feedback))
    shown = logits.softmax(dim=1)
    if feedback == "topk:2":
        shown = torch.where(shown >= shown.topk(2).values[:, 1:], shown, 0.0)
    pairs = [Pairs(seat, 5) for seat in seats]
    for own, seat, scores in zip(pairs, seats, (logits, shown), strict=True):
        own.add(seat, seat.x0, told(scores))
    if feedback == "probabilities":
        assert torch.allclose(pairs[0].z, pairs[1].z, atol=1e-5)
    else:
        order = [own.z.topk(2).indices for own in pairs]
        assert torch.equal(*order) and pairs[1].z.isfinite().all()


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 9), (3, 32, 32), (1, 28, 28)])
def test_a_network_takes_images_of_any_size(shape, depth):
    network = ResidualNet(shape, 7, 4, depth, torch.device("cpu"))
    network.initialise(torch.ones)
    assert network.eval()(torch.rand(2, *shape)).shape == (2, 7)


def test_at_first_a_network_is_as_deep_as_its_stem():
    """The last layer of each block is zero, so that deeper ones begin as easy to train."""
    network = ResidualNet((1, 8, 8), 3, 4, 3, torch.device("cpu")).eval()
    network.initialise(torch.randn)
    x = torch.rand(5, 1, 8, 8)
    stem = network.stem(4 * x - 2)
    for block in network.blocks:
        assert torch.equal(block(stem), stem)


def test_training_lowers_the_error_and_finds_the_slope_of_a_linear_victim(games, images):
    seat = games(40)
    pairs, x = Pairs(seat, 400), images(400, SHAPE, seed=5)
    pairs.add(seat, x, told(seat.model(x, None, None)))
    surrogate = Surrogate(seat, width=8, depth=1, learning_rate=0.1, seed=0)
    surrogate.train(pairs, 150, 32)
    fresh = images(100, SHAPE, seed=6)
    z = seat.model(fresh, None, None)
    z = z - z.mean(dim=1, keepdim=True)
    assert (surrogate.logits(fresh) - z).square().mean() < 0.5 * z.square().mean()
    slope = surrogate.gradient(seat.x0, seat.label, mean_squared_loss)
    truth = (seat.model.weight - seat.model.weight.mean(dim=0))[seat.label]
    cosine = torch.nn.functional.cosine_similarity(slope.flatten(1), truth.flatten(1))
    assert cosine.min() > 0.5  # chance: 0, give or take 1/8


def test_the_largest_value_of_a_gradient_is_one_however_small_it_was(games):
    surrogate = Surrogate(games(2), width=4, depth=0, learning_rate=0.1, seed=0)
    surrogate.network.eval()
    x, y = torch.rand(2, *SHAPE), torch.tensor([0, 1])
    plain = surrogate.gradient(x, y, mean_squared_loss)
    assert plain.abs().amax(dim=(1, 2, 3)).tolist() == [1.0, 1.0]
    tiny = surrogate.gradient(x, y, lambda z, y: mean_squared_loss(z, y) * 1e-35)
    assert torch.allclose(tiny, plain, atol=1e-4)
    flat = surrogate.gradient(x, y, lambda z, y: mean_squared_loss(z, y) * 0)
    assert torch.equal(flat, torch.zeros_like(x))


def test_a_batch_without_a_finite_gradient_changes_nothing(games):
    seat = games(4)
    pairs = Pairs(seat, 4)
    pairs.add(seat, seat.x0, told(torch.full((4, 4), 1e30) * torch.eye(4)))
    surrogate = Surrogate(seat, width=4, depth=1, learning_rate=0.1, seed=0)
    surrogate.scale = 1e-30
    before = [w.clone() for w in surrogate.network.parameters()]
    surrogate.train(pairs, 3, 4)
    assert all(torch.equal(a, b) for a, b in zip(before, surrogate.network.parameters(), strict=True))


def test_draws_depend_on_the_seed_alone(games):
    seat = games(4)
    torch.manual_seed(0)
    one, other = (Surrogate(seat, width=4, depth=1, learning_rate=0.1, seed=seed) for seed in (0, 1))
    torch.manual_seed(1)
    again = Surrogate(seat, width=4, depth=1, learning_rate=0.1, seed=0)
    stems = [s.network.stem.weight for s in (one, other, again)]
    assert torch.equal(stems[0], stems[2]) and not torch.equal(stems[0], stems[1])
