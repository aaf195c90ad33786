from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from agents.defenders.predcoin.gamma import (
    WIDTH,
    accuracy_loss,
    bisection,
    gains,
    right_answers_lost,
    scan,
    top_two,
)

ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.99, 1.0]), st.sampled_from([-1, 0, 1])),
    min_size=1,
    max_size=30,
)


def tensors(rows: list[tuple[float, int]]) -> tuple[Tensor, Tensor]:
    y1, gain = zip(*rows, strict=True)
    return torch.tensor(y1), torch.tensor(gain)


@given(ROWS, st.sampled_from([0.0, 0.02, 0.1, 0.3, 1.0]), st.sampled_from([0.5, 1.0, 0.25]))
def test_the_scan_finds_the_smallest_value_within_the_bound(
    rows: list[tuple[float, int]], bound: float, rate: float
) -> None:
    y1, gain = tensors(rows)
    losses = {v: rate * sum(g for y, g in rows if y >= v) / len(rows) for v, _ in rows}
    feasible = [v for v, loss in losses.items() if loss <= bound]
    found = scan(y1, gain, bound, rate)
    if not feasible:
        assert found is None
    else:
        assert found == float(torch.tensor(min(feasible)))
        assert accuracy_loss(y1, gain, found, rate) <= bound


@given(ROWS, st.sampled_from([0.0, 0.02, 0.1, 0.3]))
def test_bisection_ends_within_the_bound_and_beside_what_is_not(
    rows: list[tuple[float, int]], bound: float
) -> None:
    y1, gain = tensors(rows)
    found = bisection(y1, gain, bound)
    if found is None:
        assert accuracy_loss(y1, gain, 1.0) > bound
        return
    assert accuracy_loss(y1, gain, found) <= bound
    width = 1.0
    while width >= WIDTH:
        width /= 2
    assert found == width or accuracy_loss(y1, gain, found - width) > bound


def test_bisection_meets_the_scan_where_the_loss_falls_with_gamma() -> None:
    """The listing's own directions would end at 1 (.5 is feasible)."""
    y1, gain = torch.linspace(0, 1, 1001), torch.ones(1001, dtype=torch.int64)
    exact, found = scan(y1, gain, 0.1), bisection(y1, gain, 0.1)
    assert exact is not None
    assert found is not None
    assert exact == pytest.approx(0.8, abs=2e-3)
    assert 0 <= found - exact < WIDTH


def test_gains_count_what_a_flip_costs() -> None:
    logits = torch.tensor(
        [[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]
    )
    first, second = top_two(logits)
    assert first.tolist() == [0, 0, 0, 0, 1]
    assert second.tolist() == [2, 2, 2, 1, 2]
    assert gains(logits, torch.tensor([0, 2, 1, 1, 0])).tolist() == [1, -1, 0, -1, 0]


def test_right_answers_lost_leave_out_what_a_flip_sets_right() -> None:
    """Of eight images, seven flagged at .5: three right, two whose second class is right, two neither."""
    y1 = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.5, 0.5, 0.1])
    gain = torch.tensor([1, 1, 1, -1, -1, 0, 0, 1])
    assert right_answers_lost(y1, gain, 0.5) == 0.5 * 3 / 8
    assert accuracy_loss(y1, gain, 0.5) == 0.5 * 1 / 8
    assert right_answers_lost(y1, gain, 0.5, rate=1.0) == 3 / 8
    assert right_answers_lost(y1, gain, 0.75) == accuracy_loss(y1, gain, 0.75) == 0.5 * 2 / 8
