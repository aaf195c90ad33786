import math

import pytest

from agents.attackers.adaptive.banded_op_square import BandedOpSquare


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        (0.0, False),
        (0.5, True),
        (3.0, True),
        (3.5, False),
        (9.0, False),
        (-0.5, False),
        (-3.0, False),
        (-3.5, True),
        (-9.0, True),
    ],
)
def test_it_takes_small_rises_and_abnormal_drops(accepted, change, taken):
    assert accepted(BandedOpSquare(), [[2.0 + change]], [2.0]) == [[taken]]


def test_any_answer_replaces_none_and_no_answer_is_taken(accepted):
    assert accepted(BandedOpSquare(), [[9.0, 9.5], [math.inf, 9.0]], [math.inf, math.inf]) == [
        [True, True],
        [False, True],
    ]


def test_theta_bounds_both_sides(accepted):
    assert accepted(BandedOpSquare(theta=1.0), [[1.5], [2.5], [-0.5]], [1.0] * 3) == [[True], [False], [True]]
