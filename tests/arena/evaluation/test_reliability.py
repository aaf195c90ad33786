"""Bins along images: closed forms, and what a defense does to them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from arena.evaluation.reliability import BINS, Reliability, reliability


def test_bins_are_of_equal_mass_and_sorted_by_the_undefended_probability() -> None:
    rng = np.random.default_rng(0)
    sure, told = rng.random(1234), rng.random(1234)
    answered, right = rng.random(1234) < 0.8, rng.random(1234) < 0.5
    found = reliability(sure, told, answered, right)
    assert len(found.undefended) == len(found.defended) == len(found.accuracy) == BINS == 100
    order = np.argsort(sure)
    cuts = np.cumsum([13] * 34 + [12] * 66)[:-1]  # 1,234 images in bins that differ by one at most
    for b, rows in enumerate(np.split(order, cuts)):
        assert found.undefended[b] == pytest.approx(sure[rows].mean(), abs=1e-6)
        assert found.defended[b] == pytest.approx(told[rows][answered[rows]].mean(), abs=1e-6)
        assert found.accuracy[b] == pytest.approx(right[rows].mean(), abs=1e-6)
    assert list(found.undefended) == sorted(found.undefended)


def test_few_images_have_a_bin_each_and_what_nobody_answers_has_no_probability() -> None:
    sure = np.array([0.9, math.nan, 0.5, 0.5])
    answered, right = np.array([True, True, False, True]), np.array([True, False, False, True])
    found = reliability(sure, np.array([0.8, 0.1, math.nan, 0.4]), answered, right)
    assert found == Reliability((0, 0.5, 0.5, 0.9), (0.1, None, 0.4, 0.8), (0, 0, 1, 1))
    assert found.moved == pytest.approx((0.1 + 0.1 + 0.1) / 3)
