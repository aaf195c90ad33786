from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from agents.defenders.bit_depth import BitDepth


@pytest.mark.parametrize("b", [1, 4, 5, 8])
def test_it_rounds_as_the_authors_do(b: int, ask_as) -> None:
    x = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = np.rint(x.numpy() * (2**b - 1)) / (2**b - 1)
    answer = BitDepth(b).transform(x, ask_as(range(20)))
    np.testing.assert_allclose(answer.numpy(), expected, rtol=0, atol=1e-7)
    assert len(answer.unique()) == min(2**b, len(expected.ravel()))


def test_halves_go_to_even_levels(ask_as) -> None:
    x = torch.tensor([0.5, 1.5, 2.5]).view(1, 1, 1, 3) / 3
    assert (BitDepth(2).transform(x, ask_as([0])) * 3).round().flatten().tolist() == [0, 2, 2]


def test_images_of_8_bits_stay_at_8(ask_as) -> None:
    x = torch.arange(256).view(1, 1, 16, 16) / 255
    assert torch.equal(BitDepth(8).transform(x, ask_as([0])), x)


def test_what_lies_below_half_a_level_vanishes(service, ask_as, images) -> None:
    oracle, rows = service(BitDepth(3)), ask_as(range(150))
    plain = (images * 7).round() / 7
    near = plain + 0.4 / 7 * torch.where(images < 0.5, 1, -1)
    assert torch.equal(oracle.respond(near, rows).scores, oracle.respond(plain, rows).scores)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [({"b": 0}, "b must be from 1 to 8 bits; found 0"), ({"b": 9}, "b must be from 1 to 8 bits; found 9")],
)
def test_wrong_parameters_are_named(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        BitDepth(**parameters)
