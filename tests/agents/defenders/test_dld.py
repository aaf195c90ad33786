from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from agents.defenders.dld import DLD
from arena.rules.losses import margin
from arena.rules.outcome import labels_of


def by_hand(m: float, tau: float = 6.0, h: float = 0.3, s: float = 0.04, high: float = 0.5) -> float | None:
    """The authors' map in float64; None within 1e-5 of a place where it jumps."""
    u = m - math.floor(m / tau) * tau
    step = (u / tau) / s
    within = step - math.floor(step)
    if min(within, 1 - within, abs(within - (1 - high)), u / tau, 1 - u / tau) < 1e-5 / s:
        return None
    line = (1 - h) * u if within > 1 - high else -h * u
    return m - u + h * tau + line


@pytest.mark.parametrize("parameters", [{}, {"tau": 3.0, "h": 0.5, "s": 0.1, "high": 0.25}])
def test_the_target_is_that_of_the_authors(parameters: dict[str, float]) -> None:
    margins = torch.linspace(0.001, 25, 5003)
    found = DLD(**parameters).target(margins)
    expected = [by_hand(m, **parameters) for m in margins.double().tolist()]
    known = [i for i, t in enumerate(expected) if t is not None]
    assert len(known) > 4900
    torch.testing.assert_close(found[known], torch.tensor([expected[i] for i in known]), rtol=0, atol=1e-4)


def test_half_of_the_margins_go_up_and_half_against_the_true_one() -> None:
    u = torch.linspace(0, 5.9999, 60_000)
    t = DLD().target(u)
    low = 1.8 - 0.3 * u
    on_low = (t - low).abs() < 1e-4
    assert on_low[u > 0.01].float().mean() == pytest.approx(0.5, abs=0.01)
    torch.testing.assert_close(t[~on_low], (1.8 + 0.7 * u)[~on_low], rtol=0, atol=1e-4)


def test_only_the_largest_logit_moves(ask_as) -> None:
    z = 5 * torch.randn(500, 10, generator=torch.Generator().manual_seed(0))
    answer, top = DLD().rewrite(z, ask_as(range(500))), z.argmax(1)
    torch.testing.assert_close(margin(answer, top), DLD().target(margin(z, top)), rtol=0, atol=1e-5)
    others = torch.ones_like(z, dtype=torch.bool).scatter_(1, top[:, None], False)
    assert torch.equal(answer[others], z[others])


_FINITE = (
    st.floats(-(2.0**100), 2.0**100, width=32) | st.floats(-20, 20, width=32) | st.sampled_from([0.0, 6.0])
)


@given(z=arrays.arrays("float32", st.tuples(st.just(3), st.integers(2, 7)), elements=_FINITE))
def test_labels_stay(z: Any) -> None:
    scores = torch.from_numpy(z)
    answer = DLD().rewrite(scores, None)  # type: ignore[arg-type]
    known = labels_of(scores) >= 0
    assert torch.equal(labels_of(answer)[known], labels_of(scores)[known])


def test_square_finds_less(square, service, ask_as, images: Tensor) -> None:
    assert square("dld") > square("none") + 0.3


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"tau": 0.0}, "tau must be finite and above 0; found 0.0"),
        ({"tau": math.nan}, "tau must be finite and above 0; found nan"),
        ({"h": 1.5}, "h must be above 0 and at most 1; found 1.5"),
        ({"s": 0.0}, "s must be above 0 and at most 1; found 0.0"),
        ({"high": math.nan}, "high must be above 0 and at most 1; found nan"),
    ],
)
def test_wrong_parameters_are_named(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        DLD(**parameters)
