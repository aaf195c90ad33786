from __future__ import annotations

import math

import torch
from torch import Tensor

from agents.defenders.parts.averages import averaged, mean_probabilities
from arena.players import Response, Rows


def test_the_mean_is_that_of_probabilities() -> None:
    scores = 5 * torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(0))
    expected = scores.double().softmax(2).mean(1).log()
    torch.testing.assert_close(mean_probabilities(scores).double(), expected, rtol=0, atol=1e-5)


def test_it_is_stable_where_probabilities_vanish() -> None:
    scores = torch.tensor([[[0.0, -300.0, -400.0], [0.0, -500.0, -300.0]]])
    found = mean_probabilities(scores)
    expected = torch.tensor([[0.0, -300 - math.log(2), -300 - math.log(2)]])
    torch.testing.assert_close(found, expected)


def test_rows_that_are_not_finite_get_their_first_answer() -> None:
    scores = torch.zeros(3, 2, 2)
    scores[0, 1, 0], scores[1, 0, 1] = torch.nan, torch.inf
    scores[:, :, 0] += 1
    found = mean_probabilities(scores)
    assert found[0].tolist() == [1, 0] and found[1].tolist() == [1, torch.inf]
    torch.testing.assert_close(found[2], torch.tensor([1.0, 0.0]).log_softmax(0))


def test_each_row_is_asked_with_draws_of_its_own(ask_as) -> None:
    asked: list[Rows] = []

    def inner(x: Tensor, rows: Rows) -> Response:
        asked.append(rows)
        scores = x.flatten(1) + rows.normal((2,))
        return Response(scores, flagged=torch.as_tensor(rows.draw) == 1)

    x, rows = torch.zeros(3, 1, 1, 2), ask_as([4, 5, 6])
    answer = averaged(x, rows, inner, 5)
    assert len(asked) == 1 and asked[0].draw.tolist() == [0, 1, 2, 3, 4] * 3
    expected = torch.stack([rows.repeat(5)[i * 5 : i * 5 + 5].normal((2,)) for i in range(3)])
    torch.testing.assert_close(answer.scores, expected.softmax(2).mean(1).log())
    assert answer.flagged.all() and answer.given("refused") is None
    assert averaged(x[:0], rows[:0], inner, 5).scores.shape == (0, 2)
    assert averaged(x, rows, inner, 1).flagged.tolist() is False
