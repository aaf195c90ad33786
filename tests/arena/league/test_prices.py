"""What a defender costs honest users."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from arena.evaluation.clean_utility import Utility
from arena.league.prices import accuracy_lost

BARE = Utility(1000, 0.9, 0.88, 0.917, 0.0, 0.0, 1.0, 0.01, 0.01, 0.2)


def defended(**changes: float) -> Utility:
    return replace(BARE, **changes)  # type: ignore[arg-type]


def test_the_loss_is_the_difference_with_an_interval_around_it() -> None:
    lost = accuracy_lost(defended(accuracy=0.87, agreement=0.95), BARE)
    assert lost.value == pytest.approx(0.03)
    assert lost.low < 0.03 < lost.high and lost.high - lost.value == pytest.approx(lost.value - lost.low)
    assert lost.low > 0, "30 of 1,000 images, at most 50 to 66 of which differ"


def test_agreement_on_every_image_measured_promises_nothing_of_all_others() -> None:
    lost = accuracy_lost(defended(), BARE)
    assert lost.value == 0 and lost.low < 0 < lost.high < 0.01


def test_the_more_answers_differ_the_wider_the_interval() -> None:
    wide, narrow = (accuracy_lost(defended(agreement=share), BARE) for share in (0.7, 0.99))
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_figures_of_different_images_are_not_compared() -> None:
    lost = accuracy_lost(defended(images=500), BARE)
    assert math.isnan(lost.value) and (lost.low, lost.high) == (-1, 1)


@pytest.mark.parametrize(
    ("gained", "lost", "other"), [(0.01, 0.04, 0.02), (0.0, 0.02, 0.0), (0.05, 0.05, 0.05)]
)
def test_the_interval_covers_the_truth_in_simulations(gained: float, lost: float, other: float) -> None:
    """Images on which the defense turns right answers wrong, wrong ones right, and wrong ones into others."""
    random, n, rounds, truth = np.random.default_rng(0), 400, 2000, lost - gained
    kept = 0
    for up, down, changed in random.multinomial(n, [gained, lost, other, 1 - gained - lost - other], rounds)[
        :, :3
    ]:
        bare = replace(BARE, images=n, accuracy=0.9)
        own = replace(bare, accuracy=0.9 - (down - up) / n, agreement=1 - (up + down + changed) / n)
        rate = accuracy_lost(own, bare)
        kept += rate.low <= truth <= rate.high
    assert kept / rounds >= 0.94
