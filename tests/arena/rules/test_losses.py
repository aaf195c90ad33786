"""Margins and cross-entropies against their definitions in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from arena.rules.losses import Loss, as_logits, attack_loss, margin

ROW = st.lists(st.floats(-50, 50, width=32), min_size=4, max_size=4)
LABELLED = st.lists(st.tuples(ROW, st.integers(0, 3)), min_size=1, max_size=4)


def batch(rows: list[tuple[list[float], int]]) -> tuple[Tensor, Tensor]:
    return torch.tensor([r for r, _ in rows]), torch.tensor([y for _, y in rows])


@given(LABELLED)
def test_margin_is_own_score_less_the_best_other(rows: list[tuple[list[float], int]]) -> None:
    scores, label = batch(rows)
    expected = [torch.tensor(r[y]) - torch.tensor(max(s for k, s in enumerate(r) if k != y)) for r, y in rows]
    assert torch.equal(margin(scores, label), torch.stack(expected))


@given(LABELLED)
def test_margin_loss_turns_its_sign_for_a_target(rows: list[tuple[list[float], int]]) -> None:
    scores, label = batch(rows)
    for shown, logits in ((scores, True), (scores.softmax(dim=1), False)):
        own = attack_loss(shown, label, "margin", targeted=False, logits=logits)
        assert torch.equal(attack_loss(shown, label, "margin", targeted=True, logits=logits), -own)
    assert torch.equal(
        attack_loss(scores, label, "margin", targeted=False, logits=True), margin(scores, label)
    )


@given(LABELLED)
def test_the_margin_of_probabilities_is_that_of_logits(rows: list[tuple[list[float], int]]) -> None:
    """Of all logits whose margin is below 100, although p_y rounds to 1 from 17 on."""
    scores, label = batch(rows)
    scores = scores * 0.99
    found = attack_loss(scores.softmax(dim=1), label, "margin", targeted=False, logits=False)
    expected = margin(scores.double(), label)
    # Below 2^-126 float32 holds multiples of 2^-149: at a margin of 99, .04 of the probability.
    coarse = expected.abs() > 80
    torch.testing.assert_close(found.double()[~coarse], expected[~coarse], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found.double()[coarse], expected[coarse], rtol=0, atol=0.05)


def test_where_the_margin_of_probabilities_ends() -> None:
    """What float32 cannot hold is below all that it can, and the same from there on."""
    logits = torch.tensor([[0.0, -g, -300.0] for g in (87.0, 103.0, 104.0, 200.0)])
    y = torch.zeros(4, dtype=torch.int64)
    found = attack_loss(logits.softmax(dim=1), y, "margin", targeted=False, logits=False).tolist()
    assert found[0] == pytest.approx(87, abs=0.01)
    assert found[0] < found[1] < found[2] == found[3] == pytest.approx(150 * math.log(2))


@given(LABELLED, st.booleans())
def test_cross_entropy_of_logits_is_the_log_of_the_softmax(
    rows: list[tuple[list[float], int]], targeted: bool
) -> None:
    scores, label = batch(rows)
    expected = []
    for r, y in rows:
        top = max(r)
        expected.append(r[y] - top - math.log(sum(math.exp(s - top) for s in r)))
    found = attack_loss(scores, label, "cross-entropy", targeted=targeted, logits=True)
    sign = -1 if targeted else 1
    torch.testing.assert_close(found.double() * sign, torch.tensor(expected).double(), rtol=1e-5, atol=1e-5)


@given(LABELLED)
def test_cross_entropy_of_probabilities_agrees_with_that_of_logits(
    rows: list[tuple[list[float], int]],
) -> None:
    scores, label = batch(rows)
    scores = scores / 5  # so that no probability vanishes
    exact = attack_loss(scores.double(), label, "cross-entropy", targeted=False, logits=True)
    found = attack_loss(scores.softmax(dim=1), label, "cross-entropy", targeted=False, logits=False)
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=0)


@given(LABELLED, st.booleans(), st.booleans())
def test_probabilities_and_their_margin_are_those_of_the_softmax(
    rows: list[tuple[list[float], int]], targeted: bool, logits: bool
) -> None:
    """Up to the constants that let them be summed from small probabilities alone."""
    scores, label = batch(rows)
    p = scores.double().softmax(dim=1)
    own, best = p.gather(1, label[:, None])[:, 0], p.scatter(1, label[:, None], 0).amax(dim=1)
    shown = scores if logits else scores.softmax(dim=1)
    found = attack_loss(shown, label, "probability", targeted=targeted, logits=logits)
    torch.testing.assert_close(found.double(), -own if targeted else own - 1, rtol=0, atol=1e-6)
    found = attack_loss(shown, label, "probability-margin", targeted=targeted, logits=logits)
    torch.testing.assert_close(
        found.double(), (best - own if targeted else own - best) - 1, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("kind", ["margin", "probability-margin", "probability", "cross-entropy"])
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("logits", [True, False])
def test_each_loss_sees_a_sure_classifier_to_seven_digits(kind: Loss, targeted: bool, logits: bool) -> None:
    """p_y rounds to 1, or p_t is minute: a plain float32 loss would be the same for all of these."""
    z = torch.zeros(5, 3)
    z[:, 0] = torch.tensor([20.0, 30.0, 30.001, 50.0, 80.0])
    label = torch.full((5,), 1 if targeted else 0)
    found = attack_loss(z if logits else z.softmax(1), label, kind, targeted=targeted, logits=logits)
    exact = attack_loss(z.double(), label, kind, targeted=targeted, logits=True)
    torch.testing.assert_close(found.double(), exact, rtol=3e-6, atol=0)
    assert len(found.unique()) == 5


def topk(p: Tensor, k: int) -> Tensor:
    kept = p.argsort(dim=1, descending=True)[:, :k]
    return torch.zeros_like(p).scatter(1, kept, p.gather(1, kept))


@pytest.mark.parametrize("kind", ["margin", "probability-margin", "probability", "cross-entropy"])
def test_under_topk_what_is_shown_counts_as_it_is(kind: Loss) -> None:
    """With y and another class among those shown, the loss is that of all probabilities."""
    p = (torch.randn(50, 10, generator=torch.Generator().manual_seed(0)) * 3).softmax(dim=1)
    order = p.argsort(dim=1, descending=True)
    for y in (order[:, 0], order[:, 2]):
        whole = attack_loss(p, y, kind, targeted=False, logits=False)
        found = attack_loss(topk(p, 3), y, kind, targeted=False, logits=False, partial=True)
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)


def test_under_topk_a_hidden_class_has_its_share_of_the_rest() -> None:
    shown = torch.tensor([[0.5, 0.25, 0.0, 0.0, 0.0], [0.9, 0.01, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]])
    hidden = torch.tensor([0.25 / 3, 0.01, 2.0**-24 / 4])  # the second: no more than the least one shown
    found = attack_loss(shown, torch.tensor([3, 3, 3]), "margin", targeted=True, logits=False, partial=True)
    torch.testing.assert_close(found, shown[:, 0].log() - hidden.log())


def test_under_top_1_the_margin_falls_with_the_only_probability() -> None:
    """Also between the largest float32 values below 1; it is 0 where all classes are alike."""
    p = torch.tensor([1.0, 1 - 2.0**-24, 1 - 2.0**-23, 0.999, 0.6, 0.4, 0.1])
    shown = torch.cat([p[:, None], torch.zeros(7, 9)], dim=1)
    y = torch.zeros(7, dtype=torch.int64)
    for kind in ("margin", "cross-entropy"):
        found = attack_loss(shown, y, kind, targeted=False, logits=False, partial=True)
        assert (found.diff() <= 0).all() and (found[1:].diff() < 0).all()
    assert attack_loss(shown, y, "margin", targeted=False, logits=False, partial=True)[-1] == pytest.approx(
        0, abs=1e-6
    )


def test_the_cross_entropy_sees_what_a_probability_that_rounds_to_1_hides() -> None:
    logits = torch.tensor([[0.0, -20.0, -40.0], [0.0, -21.0, -40.0], [0.0, -40.0, -60.0]])
    y = torch.zeros(3, dtype=torch.int64)
    p = logits.softmax(dim=1)
    assert (p[:, 0] == 1).all()
    found = attack_loss(p, y, "cross-entropy", targeted=False, logits=False)
    torch.testing.assert_close(found.double(), -logits[:, 1:].double().exp().sum(dim=1), rtol=1e-5, atol=0)


def test_losses_stay_finite_where_a_probability_vanishes() -> None:
    y = torch.tensor([1])
    hidden = attack_loss(torch.tensor([[1.0, 0.0]]), y, "cross-entropy", targeted=False, logits=False)
    assert hidden.item() == pytest.approx(-150 * math.log(2))
    sure = attack_loss(torch.tensor([[1e4, -1e4]]), y, "cross-entropy", targeted=False, logits=True)
    assert sure.item() == -2e4


def test_margin_does_not_write_to_the_scores() -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0]])
    margin(scores, torch.tensor([2]))
    assert scores.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("where", [0, 1, 2])
def test_nan_anywhere_in_a_row_gives_nan_there_alone(where: int) -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    scores[0, where] = math.nan
    found = margin(scores, torch.tensor([1, 1]))
    assert found[0].isnan()
    assert found[1] == -1


def test_margin_of_infinite_logits_and_of_one_class() -> None:
    assert margin(torch.tensor([[math.inf, 0.0]]), torch.tensor([0])).item() == math.inf
    assert margin(torch.tensor([[-math.inf, 0.0]]), torch.tensor([0])).item() == -math.inf
    assert margin(torch.tensor([[2.5]]), torch.tensor([0])).item() == 2.5


@pytest.mark.parametrize(
    ("row", "y", "apart"),
    [
        ([math.inf, math.inf, 0], 0, 0),
        ([math.inf, math.inf, 0], 2, -math.inf),
        ([-math.inf, 0, -math.inf], 0, -math.inf),
        ([-math.inf, 0, -math.inf], 1, math.inf),
        ([-math.inf] * 3, 1, 0),
        ([math.inf] * 3, 1, 0),
        ([1, 1, 1], 1, 0),
    ],
)
@pytest.mark.parametrize("others", [0, 1])
def test_scores_that_are_equal_are_0_apart_infinite_ones_too(
    row: list[float], y: int, apart: float, others: int
) -> None:
    scores = torch.tensor([row, *[[1.0, 2, 3]] * others], dtype=torch.float32)
    label = torch.tensor([y, *[2] * others])
    assert margin(scores, label).tolist() == [apart, 1][: 1 + others]
    for kind in ("margin", "cross-entropy"):
        for targeted in (False, True):
            loss = attack_loss(scores, label, kind, targeted=targeted, logits=True)
            unknown = kind == "cross-entropy" and max(row) == -math.inf
            assert loss.isnan().tolist() == [unknown, False][: 1 + others]


def test_logits_at_infinity_share_all_probability_in_the_cross_entropy() -> None:
    scores = torch.tensor([[math.inf, math.inf, 0]])
    for y, log_p in ((0, -math.log(2)), (2, -torch.finfo(torch.float32).max)):
        found = attack_loss(scores, torch.tensor([y]), "cross-entropy", targeted=False, logits=True)
        assert found.item() == pytest.approx(log_p)


def test_margin_is_differentiable() -> None:
    scores = torch.tensor([[1.0, 2.0, 4.0]], requires_grad=True)
    margin(scores, torch.tensor([1])).sum().backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert scores.grad.tolist() == [[0, 1, -1]]


@pytest.mark.parametrize("other", [0.0, math.inf])
def test_a_tie_has_the_gradient_of_the_margin_beside_infinite_ties_too(other: float) -> None:
    scores = torch.tensor([[2.0, 2.0, 0.0], [other, other, 1.0]], requires_grad=True)
    margin(scores, torch.tensor([1, 1])).sum().backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert scores.grad[0].tolist() == [-1, 1, 0]


@given(ROW)
def test_probabilities_as_logits_are_the_logits_less_one_number(row: list[float]) -> None:
    z = torch.tensor([row]).clamp(-30, 30)
    assert as_logits(z, logits=True) is z
    apart = as_logits(z.softmax(dim=1), logits=False) - z
    assert torch.allclose(apart, apart[:, :1].expand_as(apart), atol=1e-3)


def test_classes_that_are_hidden_share_what_those_shown_leave() -> None:
    shown = torch.tensor([[0.6, 0.3, 0.0, 0.0]])
    told = as_logits(shown, logits=False, partial=True)
    assert torch.allclose(told.exp(), torch.tensor([[0.6, 0.3, 0.05, 0.05]]))
    assert as_logits(shown, logits=False).isfinite().all()
