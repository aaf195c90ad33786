import math

import pytest
import torch

from agents.attackers.parts.estimates import BLOCK, Estimate, estimate, unit
from arena.rules.threat import Threat

THREAT = Threat(norm="l2", epsilon=math.inf, budget=10_000, objective="minimum", feedback="label")


class Probing:
    """Estimates the normal at `x` [G,C,H,W] with `count` probes of radius `delta`."""

    def __init__(self, x, count, delta=1e-2):
        self.x, self.count, self.delta = x, count, delta

    def play(self, games):
        i = games.open

        def probes(rows):
            u = unit(games.normal((BLOCK, *self.x.shape[1:]), i[rows]))
            return (self.x[i[rows]].unsqueeze(1) + self.delta * u).clamp(0, 1), u

        self.sums = yield from estimate(games, i, self.count, probes)


def at_plane(shape, games, seed=0):
    """A linear classifier, and points exactly on its plane."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(shape, generator=generator, dtype=torch.float64)
    w /= w.norm()
    x = 0.4 + 0.2 * torch.rand(games, *shape, generator=generator, dtype=torch.float64)
    x = (x - ((x - 0.5) * w).flatten(1).sum(dim=1).view(-1, 1, 1, 1) * w).float()
    bias = ((x.double() - 0.5) * w).flatten(1).sum(dim=1)  # what rounding left

    def model(z, game, turn):
        f = ((z.double() - 0.5) * w).flatten(1).sum(dim=1) - bias[game]
        return torch.stack([torch.zeros(len(z)), (1e6 * f).float()], dim=1)

    return model, x, w


@pytest.mark.parametrize(("shape", "count"), [((1, 8, 8), 50), ((3, 16, 16), 100), ((3, 16, 16), 400)])
def test_the_cosine_with_the_normal_is_that_of_the_closed_form(referee, shape, count):
    """E cos = (1 + (d - 1) / (n alpha^2))^(-1/2) with alpha^2 = 2/pi (PopSkipJump, without noise)."""
    model, x, w = at_plane(shape, 30)
    table, probing = referee(model, x, torch.zeros(30).long(), THREAT), Probing(x, count)
    table.play(probing)
    cosine = (probing.sums.normal().double() * w).flatten(1).sum(dim=1)
    expected = (1 + (w.numel() - 1) / (count * 2 / math.pi)) ** -0.5
    error = cosine.std().item() / math.sqrt(30)
    assert abs(cosine.mean().item() - expected) < 4 * error + 0.01
    assert {len(asked) for asked in table.asked} == {count}
    assert set(table.purposes(0)) == {"gradient"}


def test_sums_are_those_of_the_probes_answered(referee):
    model, x, _ = at_plane((1, 4, 4), 2)
    table = referee(model, x, torch.zeros(2).long(), THREAT.with_budget(21))
    probing = Probing(x, 100)
    table.play(probing)
    for game in range(2):
        u = (table.queries(game) - x[game]).double() / 1e-2
        phi = torch.tensor([1.0 if m < 0 else -1.0 for m in table.margins(game)], dtype=torch.float64)
        assert len(u) == 21 == probing.sums.count[game]
        assert probing.sums.phi[game] == phi.sum()
        torch.testing.assert_close(probing.sums.u[game].double(), u.sum(dim=0), rtol=0, atol=1e-3)
        expected = (phi.view(-1, 1, 1, 1) * u).sum(dim=0)
        torch.testing.assert_close(probing.sums.phi_u[game].double(), expected, rtol=0, atol=1e-3)


def test_refused_probes_are_left_out(referee):
    model, x, _ = at_plane((1, 4, 4), 2)
    table = referee(model, x, torch.zeros(2).long(), THREAT, refuse=lambda game, turn: turn % 3 == 0)
    probing = Probing(x, 30)
    table.play(probing)
    assert probing.sums.count.tolist() == [20, 20]


@pytest.mark.parametrize("max_rows", [3, 17, 64, 4096])
def test_how_volleys_are_cut_changes_no_bit(referee, max_rows):
    found = []
    for games, rows in (([0, 1, 2, 3, 4], 4096), ([3], max_rows), ([4, 3], max_rows)):
        model, x, _ = at_plane((3, 5, 5), 5)
        key = torch.tensor(games)

        def chosen(z, game, turn, key=key, model=model):
            return model(z, key[game], turn)

        table = referee(chosen, x[key], torch.zeros(len(key)).long(), THREAT, key=key, max_rows=rows)
        probing = Probing(x[key], 45)
        table.play(probing)
        found.append(probing.sums.normal()[games.index(3)])
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_the_normal_subtracts_the_baseline_unless_all_agree():
    u = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 1.0]]).view(3, 1, 1, 2)
    phi = torch.tensor([1.0, -1.0, -1.0])
    mixed = Estimate(
        (phi.view(-1, 1, 1, 1) * u).sum(0)[None], u.sum(0)[None], phi.sum()[None], torch.tensor([3.0])
    )
    expected = ((phi - phi.mean()).view(-1, 1, 1, 1) * u).sum(0)
    torch.testing.assert_close(mixed.normal()[0], expected / expected.norm())
    assert not mixed.unanimous
    for sign in (1.0, -1.0):
        same = Estimate(sign * u.sum(0)[None], u.sum(0)[None], torch.tensor([3 * sign]), torch.tensor([3.0]))
        assert same.unanimous
        torch.testing.assert_close(same.normal()[0], sign * u.sum(0) / u.sum(0).norm())
    nothing = Estimate(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2), torch.zeros(1), torch.zeros(1))
    assert nothing.normal().abs().max() == 0


def test_a_large_image_alone_has_the_unit_vector_that_it_has_in_company():
    v = torch.randn(3, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(unit(v)[1:2], unit(v[1:2]))
    finally:
        torch.set_num_threads(before)
