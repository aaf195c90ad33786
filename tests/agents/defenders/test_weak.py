from __future__ import annotations

import pytest
import torch
from torch import Tensor

from agents.defenders.weak import Weak
from arena.conformance.defender_checks import check_defender


def test_conforms() -> None:
    check_defender(Weak())


def test_it_is_random_and_changes_next_to_nothing(service, ask_as, pixels, images: Tensor) -> None:
    answer = service(Weak())
    one, other = (answer.respond(images, ask_as(range(150), turn)).scores for turn in (1, 2))
    assert not torch.equal(one, other)
    # The logits are 20 times the pixels: 6 standard deviations of the noise.
    assert (one - pixels(images)).abs().max() < 6 * 20 * 1e-4
    assert 0.5e-4 < ((one - pixels(images)) / 20).std() < 1.5e-4


def test_it_says_that_it_is_a_control() -> None:
    assert Weak.control
    assert Weak().random


@pytest.mark.parametrize("sigma", [0.0, -1e-4, 0.002, float("nan")])
def test_a_control_cannot_be_made_a_defense(sigma: float) -> None:
    with pytest.raises(ValueError, match="a control defends nothing"):
        Weak(sigma=sigma)
