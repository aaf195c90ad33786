import math

import pytest
import torch

from agents.attackers.parts.searches import (
    bisect,
    blend,
    blend_search,
    boundary_search,
    clip_search,
    clip_to,
    gap_search,
    halvings,
)
from arena.rules.threat import Threat

SHAPE = (1, 3, 3)
THREAT = Threat(norm="l2", epsilon=math.inf, budget=100, objective="minimum", feedback="label")


class Asks:
    """Runs `search(games, i)` and keeps what it found."""

    def __init__(self, search):
        self.search = search

    def play(self, games):
        self.found = yield from self.search(games, games.open)


def crossing(*places):
    """Class 1 where the first pixel lies beyond the game's place."""

    def model(x, game, turn):
        beyond = x[:, 0, 0, 0].double() - torch.tensor(places, dtype=torch.float64)[game]
        return torch.stack([torch.zeros(len(x)), beyond.float()], dim=1)

    return model


def straight(games, i):
    """Images whose every pixel is t."""
    return lambda t, rows: torch.zeros_like(games.x0[i[rows]]) + t.float().view(-1, 1, 1, 1)


def ends(n, far=1.0):
    return torch.zeros(n, dtype=torch.float64), torch.full((n,), far, dtype=torch.float64)


@pytest.mark.parametrize("width", [1e-1, 1e-2, 1e-4, 1e-6])
def test_the_adversarial_end_lies_within_the_width_beyond_the_boundary(referee, width):
    places = torch.rand(20, generator=torch.Generator().manual_seed(0)).tolist()
    table = referee(crossing(*places), torch.zeros(20, *SHAPE), torch.zeros(20).long(), THREAT)

    def search(games, i):
        return bisect(games, i, straight(games, i), *ends(20), width=width, steps=99)

    asks = Asks(search)
    table.play(asks)
    excess = asks.found - torch.tensor(places, dtype=torch.float64)
    assert (excess > 0).all() and (excess <= width * (1 + 1e-6) + 1e-7).all()
    assert {len(asked) for asked in table.asked} == {halvings(width)}
    assert set(table.purposes(0)) == {"boundary-search"}


def test_rows_whose_bracket_is_narrow_are_not_asked_and_no_more_than_the_steps(referee):
    table = referee(crossing(0.3, 0.3, 0.3), torch.zeros(3, *SHAPE), torch.zeros(3).long(), THREAT)
    width = torch.tensor([2.0, 0.25, 1e-9], dtype=torch.float64)

    def search(games, i):
        return bisect(games, i, straight(games, i), *ends(3), width=width, steps=5)

    asks = Asks(search)
    table.play(asks)
    assert [len(asked) for asked in table.asked] == [0, 2, 5]
    assert asks.found.tolist() == [1, 0.5, 0.3125]


def test_a_bracket_in_float64_closes_below_half_an_ulp_of_float32(referee):
    """Where the boundary is a hair beyond a float32, the place found is that hair away in float64."""
    table = referee(crossing(0.75), torch.zeros(1, *SHAPE), torch.zeros(1).long(), THREAT)

    def search(games, i):
        return bisect(games, i, straight(games, i), *ends(1), width=1.7e-8, steps=halvings(1.7e-8))

    asks = Asks(search)
    table.play(asks)
    assert len(table.asked[0]) == 26
    assert 0 < asks.found.item() - 0.75 < 1e-7


def test_what_is_not_answered_leaves_the_adversarial_end(referee):
    threat = THREAT.with_budget(3)
    table = referee(crossing(0.0), torch.zeros(1, *SHAPE), torch.zeros(1).long(), threat)

    def search(games, i):
        return bisect(games, i, straight(games, i), *ends(1), width=1e-9, steps=40)

    asks = Asks(search)
    table.play(asks)
    assert len(table.asked[0]) == 3 and asks.found.item() == 1 / 8


def test_paths_run_from_the_clean_image_to_the_other_and_their_ends_are_exact(images):
    x0, x = images(5, SHAPE), images(5, SHAPE, seed=2)
    far = (x - x0).abs().flatten(1).amax(dim=1).double()
    for path, end in ((blend, torch.ones_like(far)), (clip_to, far)):
        assert torch.equal(path(x0, x, 0 * end), x0)
        torch.testing.assert_close(path(x0, x, end), x, rtol=0, atol=1e-7)
    middle = blend(x0, x, torch.full((5,), 0.25, dtype=torch.float64))
    torch.testing.assert_close(middle, 0.75 * x0 + 0.25 * x)
    clipped = clip_to(x0, x, torch.full((5,), 0.1, dtype=torch.float64))
    torch.testing.assert_close(clipped, x.clamp(x0 - 0.1, x0 + 0.1))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_boundary_search_ends_on_the_adversarial_side_at_the_plane(referee, linear, images, norm):
    """Against the closed form: on the segment the sign of the margin changes at m0 / (m0 - m1)."""
    model, x0, x = linear(SHAPE), images(40, SHAPE), images(40, SHAPE, seed=2)
    every = torch.arange(40)
    label = model(x0, every, every).argmax(dim=1)
    start = x[model(x, every, every).argmax(dim=1) != label]
    at = (model(x, every, every).argmax(dim=1) != label).nonzero().squeeze(1)
    threat = THREAT.model_copy(update={"norm": norm})
    table = referee(model, x0[at], label[at], threat)
    asks = Asks(lambda games, i: boundary_search(games, start, i, 1e-5))
    table.play(asks)
    z = model(asks.found, at, at).double()
    assert (z.argmax(dim=1) != label[at]).all()
    w = (model.weight[0] - model.weight[1]).double()
    assert (z[:, 0] - z[:, 1]).abs().max() < 1e-4 * w.abs().sum()
    if norm == "l2":
        m0, m1 = (((v.double() - 0.5) * w).flatten(1).sum(dim=1) for v in (x0[at], start))
        t = (m0 / (m0 - m1)).view(-1, 1, 1, 1)
        torch.testing.assert_close(asks.found.double(), (1 - t) * x0[at] + t * start, rtol=0, atol=2e-5)


@pytest.mark.parametrize("gap", [0.25, 1e-3])
def test_a_gap_is_a_length_in_l2_whatever_the_distance(referee, gap):
    """Behind mean(x - x0) = b the segment is adversarial; the two starts lie 8 and 2 times as far."""
    x0 = torch.full((2, *SHAPE), 0.1)
    far = x0 + 0.1 * torch.tensor([8.0, 2.0]).view(2, 1, 1, 1)

    def model(x, game, turn):
        f = (x - x0[game]).double().flatten(1).mean(dim=1) - 0.05
        return torch.stack([torch.zeros_like(f), f], dim=1).float()

    table = referee(model, x0, torch.zeros(2, dtype=torch.int64), THREAT)
    asks = Asks(lambda games, i: gap_search(games, far, i, gap))
    table.play(asks)
    beyond = (asks.found - x0).double().flatten(1).norm(dim=1) - 0.05 * math.sqrt(x0[0].numel())
    assert (beyond >= 0).all() and (beyond <= gap).all()
    lengths = (far - x0).flatten(1).norm(dim=1)
    assert [len(a) for a in table.asked] == [math.ceil(math.log2(r / gap)) for r in lengths.tolist()]


@pytest.mark.parametrize("search", [blend_search, clip_search])
def test_where_nothing_nearer_is_adversarial_the_image_itself_comes_back(referee, images, search):
    x0, x = images(3, SHAPE), images(3, SHAPE, seed=2)

    def model(z, game, turn):
        same = (z == x[game]).flatten(1).all(dim=1)
        return torch.stack([torch.full((len(z),), 0.5), same.float()], dim=1)

    table = referee(model, x0, torch.zeros(3).long(), THREAT)
    asks = Asks(lambda games, i: search(games, x, i, 1e-3))
    table.play(asks)
    assert torch.equal(asks.found, x)
    assert {len(asked) for asked in table.asked} == {10}
