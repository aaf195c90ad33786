from __future__ import annotations

import pytest
import torch
from torch import nn

from arena.classifiers.networks import Normalised


def test_normalisation_stands_before_the_network() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    x = torch.rand(2, 3, 4, 4)
    column = (1, 3, 1, 1)
    normalised = (x - torch.tensor(mean).view(column)) / torch.tensor(std).view(column)
    assert torch.equal(Normalised(nn.Identity(), mean, std)(x), normalised)
    assert torch.equal(Normalised(nn.Identity(), (0.5,), (2.0,))(x), (x - 0.5) / 2)


def test_the_state_dict_is_the_network_s_under_its_name() -> None:
    assert Normalised(nn.Linear(2, 2), (0.5,), (2.0,)).state_dict().keys() == {
        "network.weight",
        "network.bias",
    }


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((), ()),
        ((0.5,), (1.0, 1.0)),
        ((0.5,), (0.0,)),
        ((0.5,), (float("nan"),)),
        ((float("nan"),), (1.0,)),
        ((0.5,), (float("inf"),)),
    ],
)
def test_a_normalisation_that_is_none_is_refused(mean: tuple[float], std: tuple[float]) -> None:
    with pytest.raises(ValueError, match="mean and std must be as many"):
        Normalised(nn.Identity(), mean, std)
