"""Directions through reference networks: exact, in pieces, with dropout that is drawn game by game."""

import pytest
import torch
from torch import nn

from agents.attackers.parts import reference_networks
from agents.attackers.parts.estimates import unit
from agents.attackers.parts.reference_networks import PIECE, Dropping, direction, loss_direction, networks
from arena.players.seat import Resources
from arena.rules.threat import Threat

SHAPE = (1, 4, 4)


class Quadratic(nn.Module):
    """Logits a |x - c|^2 and 0; the gradient of the first is 2 a (x - c)."""

    def __init__(self, a=1.0):
        super().__init__()
        self.a, self.asked = a, []

    def forward(self, x):
        self.asked.append(len(x))
        z = self.a * (x - 0.3).flatten(1).square().sum(dim=1)
        return torch.stack([z, torch.zeros_like(z)], dim=1)


class Dropped(nn.Module):
    """A linear network behind dropout, of single values or of whole channels."""

    def __init__(self, layer, shape=(3, 4, 4)):
        super().__init__()
        self.layer = layer
        weight = torch.randn(2, *shape, generator=torch.Generator().manual_seed(2))
        self.register_buffer("weight", weight)

    def forward(self, x):
        return (self.layer(x).unsqueeze(1) * self.weight).flatten(2).sum(dim=2)


def first(z, rows):
    return z[:, 0]


@pytest.fixture
def seat(referee, images):
    def make(games, shape=SHAPE, key=None, **rules):
        x0 = images(games, shape)
        threat = Threat(epsilon=0.1, budget=10, **rules)
        label = torch.zeros(games, dtype=torch.int64)
        target = torch.ones_like(label) if threat.targeted else None
        told = {"target": target, "key": key, "seed": 5}
        return referee(lambda x, g, t: torch.zeros(len(x), 2), x0, label, threat, **told).seat

    return make


@pytest.mark.parametrize("a", [1.0, -2.0, 1e-35])
def test_it_is_the_unit_gradient_however_small_that_is(images, a):
    x = images(5, SHAPE)
    found = direction(Quadratic(a), x, first)
    expected = unit(x - 0.3) * (1 if a > 0 else -1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_where_there_is_none_it_is_0(images):
    x = images(4, SHAPE)
    x[1] = 0.3

    factor = torch.tensor([1.0, 1.0, torch.inf, 1.0])
    found = direction(Quadratic(), x, lambda z, rows: z[:, 0] * factor[rows])
    length = found.flatten(1).norm(dim=1)
    assert length.tolist() == pytest.approx([1, 0, 0, 1], abs=1e-5)


def test_images_go_through_in_pieces_and_know_their_rows(images):
    x, net = images(2 * PIECE + 3, SHAPE), Quadratic()
    sign = torch.where(torch.arange(len(x)) % 3 == 0, -1.0, 1.0)
    found = direction(net, x, lambda z, rows: sign[rows] * z[:, 0])
    assert net.asked == [PIECE, PIECE, 3]
    torch.testing.assert_close(found, unit(x - 0.3) * sign.view(-1, 1, 1, 1), rtol=1e-4, atol=1e-5)


def test_a_network_is_not_asked_about_no_images(images):
    """Many flatten by `view(n, -1)`, which fails for n = 0."""
    net = Quadratic()
    assert direction(net, images(3, SHAPE)[:0], first).shape == (0, *SHAPE)
    assert net.asked == []


def test_it_works_where_gradients_are_off_and_leaves_none_behind(images):
    x, net = images(2, SHAPE), Dropped(nn.Identity(), SHAPE)
    net.weight = nn.Parameter(net._buffers.pop("weight"), requires_grad=True)
    with torch.no_grad():
        found = direction(net, x, first)
    assert not found.requires_grad and not x.requires_grad and net.weight.grad is None
    torch.testing.assert_close(found, unit(net.weight[:1]).detach().expand(2, -1, -1, -1))


def test_the_loss_is_that_of_the_game(seat, images):
    net, x = Dropped(nn.Identity(), SHAPE), images(3, SHAPE)
    apart = unit((net.weight[0] - net.weight[1])[None]).expand(3, -1, -1, -1)
    every = torch.arange(3)
    for loss in ("margin", "cross-entropy", "probability"):
        plain = loss_direction(net, seat(3), x, every, loss)
        targeted = loss_direction(net, seat(3, goal="targeted"), x, every, loss)
        torch.testing.assert_close(plain, apart, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(targeted, apart, rtol=1e-3, atol=1e-4)  # away from 0 is towards 1


@pytest.mark.parametrize("layer", [nn.Dropout(0.9), nn.Dropout2d(0.9)])
def test_dropout_is_drawn_by_game_whoever_is_beside_it(seat, layer):
    shape, key = (3, 4, 4), torch.tensor([4, 8, 15, 16])
    net = Dropped(layer.eval(), shape)
    games = seat(4, shape, key)
    i = torch.tensor([3, 1, 2])
    state = torch.get_rng_state()
    found = direction(net, games.x0[i], first, Dropping(0.5, games, i))
    assert torch.equal(torch.get_rng_state(), state)
    for row, game in enumerate(i.tolist()):
        alone = seat(4, shape, key)
        one = torch.tensor([game])
        assert torch.equal(direction(net, alone.x0[one], first, Dropping(0.5, alone, one))[0], found[row])
    kept = found != 0
    if isinstance(layer, nn.Dropout2d):
        whole = kept.flatten(2)
        assert torch.equal(whole.all(dim=2), whole.any(dim=2))
    assert not kept.all() and kept.any()
    assert not torch.equal(kept[0], kept[1])
    assert torch.equal(direction(net, games.x0[i], first) != 0, torch.ones_like(kept))  # no hook is left


def test_dropout_keeps_the_share_and_the_mean(seat):
    shape = (1, 40, 50)
    net, games, i = Dropped(nn.Dropout(), shape).eval(), seat(2, shape), torch.arange(2)
    given = Dropping(0.25, games, i)(net.layer, torch.ones(2, *shape), i)
    values = given.unique().tolist()
    assert values == pytest.approx([0, 4 / 3])
    assert abs(float((given == 0).float().mean()) - 0.25) < 5 * (0.25 * 0.75 / 4000) ** 0.5


def test_a_network_without_dropout_draws_nothing(seat):
    games, i = seat(2), torch.arange(2)
    direction(Quadratic(), games.x0, first, Dropping(0.5, games, i))
    assert games._drawn.tolist() == [0, 0]


def test_none_granted_is_an_error(seat):
    games = seat(1)
    with pytest.raises(ValueError, match="none was granted"):
        networks(games)
    games.resources = Resources(surrogates=(Quadratic(),))
    assert len(networks(games)) == 1
    assert reference_networks.PIECE == PIECE
