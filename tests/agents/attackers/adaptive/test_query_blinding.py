import math

import numpy as np
import pytest
import torch
from scipy import ndimage

import arena
from agents.attackers.adaptive.query_blinding import QueryBlinding, resample
from agents.attackers.decision.hop_skip_jump import HopSkipJump
from agents.attackers.score.square import Square
from arena.rules.threat import Threat

SHAPE = (1, 8, 8)
STILL = {"shift": 0.0, "rotation": 0.0, "crop": 0.0, "brightness": 0.0, "noise": 0.0}


def resampled(x, angle=0.0, size=1.0, right=0.0, down=0.0):
    return resample(x, *(torch.full((len(x),), float(v)) for v in (angle, size, right, down)))


@pytest.mark.parametrize("shape", [(2, 6, 6), (1, 4, 8)])
def test_turns_and_shifts_by_whole_pixels_are_exact(shape):
    x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    height, width = shape[1:]
    assert torch.allclose(resampled(x, angle=math.pi), x.flip(2, 3), atol=1e-5)
    if height == width:
        assert torch.allclose(resampled(x, angle=math.pi / 2), x.rot90(-1, (2, 3)), atol=1e-5)
    shifted = resampled(x, right=2 * 2 / width)
    assert torch.allclose(shifted[..., 2:], x[..., :-2], atol=1e-5)
    assert torch.allclose(shifted[..., :2], x[..., :1].expand(-1, -1, -1, 2), atol=1e-5)
    assert torch.allclose(resampled(x, down=2 / height)[:, :, 1:], x[:, :, :-1], atol=1e-5)


def test_a_turn_and_a_crop_are_those_of_scipy():
    """Its order 1, mode "nearest"; an image that is no square."""
    x = torch.rand(1, 1, 9, 13, generator=torch.Generator().manual_seed(0))
    angle, size = 0.3, 0.8
    turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.array([4.0, 6.0])
    expected = ndimage.affine_transform(
        x[0, 0].double().numpy(), turn, centre - turn @ centre, order=1, mode="nearest"
    )
    assert np.allclose(resampled(x, angle, size)[0, 0].numpy(), expected, atol=1e-5)


@pytest.fixture
def tables(referee, linear, images):
    def make(*attackers, objective="submit", epsilon=0.2, **more):
        model, x0, label = linear(SHAPE), images(3, SHAPE), torch.zeros(3, dtype=torch.int64)
        far = lambda x, game, turn: model(x, game, turn) + torch.tensor([9.0, 0.0])  # noqa: E731
        threat = Threat(epsilon=epsilon, budget=40, objective=objective)
        return [referee(far, x0, label, threat, **more).play(a) for a in attackers]

    return make


def test_without_any_change_it_is_the_attacker_inside(tables):
    one, other = tables(Square(), QueryBlinding(Square(), **STILL), epsilon=0.01)
    for game in range(3):
        assert torch.equal(one.queries(game), other.queries(game))


def test_every_query_is_changed_by_a_draw_of_its_own(tables):
    (table,) = tables(QueryBlinding(Square(), noise=0.0, brightness=0.2, shift=0.0, rotation=0.0, crop=0.0))
    (plain,) = tables(QueryBlinding(Square(), **STILL))
    for game in range(3):
        moved = (table.queries(game)[0] - plain.queries(game)[0])[0]
        middle = (plain.queries(game)[0] > 0.3) & (plain.queries(game)[0] < 0.7)
        shift = moved[middle[0]]
        assert shift.std() < 1e-6 and shift.abs().max() <= 0.2
    first = [float(table.queries(g)[0].mean() - plain.queries(g)[0].mean()) for g in range(3)]
    assert len({round(v, 6) for v in first}) == 3


def test_no_two_queries_are_near_each_other(tables):
    """Square's differ in a square; blinded all are apart."""
    plain, blind = tables(Square(), QueryBlinding(Square()), epsilon=0.01)
    nearest = [torch.pdist(t.queries(0).flatten(1)).min().item() for t in (plain, blind)]
    assert nearest[0] < 0.05 and nearest[1] > 0.2


class Bright(torch.nn.Module):
    """Class 1 where the mean is above .5: a label that turning and shifting keep, more or less."""

    def forward(self, x):
        f = 40 * (x.flatten(1).mean(dim=1) - 0.5)
        return torch.stack([-f, f], dim=1)


def play(objective, attacker, queries, **rules):
    x0 = 0.45 + 0.06 * torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(2))
    x0 -= (x0.flatten(1).mean(dim=1) - 0.47).view(-1, 1, 1, 1)
    threat = {"epsilon": 0.1, "budget": 200, "objective": objective} | rules
    result = arena.play(
        attacker,
        classifier=Bright(),
        images=x0,
        labels=torch.zeros(6, dtype=torch.int64),
        threat=threat,
        keep_rows=True,
    )
    return result, queries(result)


def test_under_first_what_looks_wrong_is_confirmed_as_it_is(queries):
    result, rows = play("first", QueryBlinding(Square(p=0.3)), queries)
    assert result.answered.sum() >= 5
    assert set(rows.purpose[rows.hit]) == {"confirm"}  # what is blinded lies outside of the ball


def test_what_is_handed_in_is_asked_as_it_is_before(queries):
    result, rows = play("submit", QueryBlinding(Square(p=0.3)), queries)
    handed_in = np.array(result.reason) == "submitted"
    assert handed_in.sum() >= 3 and result.base[handed_in].all()
    assert (rows.purpose == "confirm").sum() >= handed_in.sum()


def test_claims_are_asked_where_answers_are_facts(queries):
    attacker = QueryBlinding(HopSkipJump(), shift=0.1, rotation=5.0, crop=0.0, brightness=0.0, noise=0.0)
    rules = {"norm": "l2", "epsilon": "inf", "feedback": "label"}
    result, rows = play("minimum", attacker, queries, **rules)
    assert result.answered.all() and (rows.purpose == "confirm").any()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"shift": 0.6}, r"^shift must be from 0 to 0.5; found 0.6$"),
        ({"rotation": -1.0}, r"^rotation must be from 0 to 180; found -1.0$"),
        ({"noise": math.nan}, r"^noise must be from 0 to 1; found nan$"),
    ],
)
def test_a_bad_parameter_is_told(given, said):
    with pytest.raises(ValueError, match=said):
        QueryBlinding(Square(), **given)
