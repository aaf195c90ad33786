from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from agents.defenders.boundary_defense import BoundaryDefense


def test_noise_falls_on_unsure_answers_alone(service, ask_as, pixels, images: Tensor) -> None:
    z = pixels(images)
    unsure = z.double().softmax(1).amax(1) < 0.7
    assert 0.2 < unsure.float().mean() < 0.9
    answer = service(BoundaryDefense(0.7, 0.5)).respond(images, ask_as(range(150))).scores
    assert torch.equal((answer != z).any(1), unsure)
    noise = ((answer - z)[unsure] / 0.5).flatten()
    assert stats.kstest(noise.numpy(), "norm").pvalue > 0.01


def test_logits_that_are_not_finite_pass_by(ask_as) -> None:
    z = torch.zeros(3, 4)
    z[0, 1], z[1, 2] = math.nan, math.inf
    answer = BoundaryDefense(1.0).rewrite(z, ask_as(range(3)))
    assert torch.equal(answer[:2].nan_to_num(7.0), z[:2].nan_to_num(7.0))
    assert (answer[2] != z[2]).all()


def test_it_misleads_square_where_fresh_answers_are_counted(square) -> None:
    assert square(BoundaryDefense(0.95, 1.0), "vote") > square("none", "vote") + 0.2


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"theta": 0.0}, "theta must be above 0 and at most 1; found 0.0"),
        ({"theta": math.nan}, "theta must be above 0 and at most 1; found nan"),
        ({"sigma": -1.0}, r"sigma must be from 0 to 1e\+06; found -1.0"),
        ({"sigma": math.inf}, r"sigma must be from 0 to 1e\+06; found inf"),
        ({"sigma": 3e38}, r"sigma must be from 0 to 1e\+06; found 3e\+38"),
    ],
)
def test_wrong_parameters_are_named(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        BoundaryDefense(**parameters)
