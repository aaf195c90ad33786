from __future__ import annotations

import math

import pytest
import torch

from arena.envs.margins import shown_margin
from arena.rules.feedback import shown
from arena.rules.threat import Threat

Z = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 5.0]])
FIRST = torch.zeros(2, dtype=torch.int64)


def margins(feedback, z=Z, to=FIRST, goal="untargeted"):
    threat = Threat(epsilon=1, budget=1, feedback=feedback, goal=goal)
    return shown_margin(shown(z, feedback, threat.top_k), to, threat).tolist()


@pytest.mark.parametrize("feedback", ["logits", "probabilities", "topk:3"])
def test_scores_that_show_all_give_the_margin_of_the_logits(feedback):
    assert margins(feedback) == pytest.approx([2 / 3, -5 / 6], abs=1e-5)
    assert margins(feedback, to=FIRST + 2, goal="targeted") == pytest.approx([3 / 4, -3 / 4], abs=1e-5)


def test_a_hidden_class_counts_as_probable_as_it_can_be():
    p = Z.softmax(1)
    first, second = p[0, 0], p[1, 2]
    # topk:1 shows p_0 of the first row, which leaves 1 - p_0 < p_0 for another; in the second it hides p_0.
    m = [math.log(first / (1 - first)), -math.log(second / (1 - second))]
    assert margins("topk:1") == pytest.approx([v / (1 + abs(v)) for v in m], abs=1e-5)
    even = torch.tensor([[0.4, 0.35, 0.25], [0.4, 0.35, 0.25]]).log()
    # The target, hidden, can be as probable as the least one shown, and not more than what is left.
    assert margins("topk:1", even, goal="targeted", to=FIRST + 1) == pytest.approx([0, 0], abs=1e-5)
    m = math.log(0.4 / 0.25)
    assert margins("topk:2", even, goal="targeted", to=FIRST + 2) == pytest.approx(
        [m / (1 + m)] * 2, abs=1e-5
    )


def test_a_margin_s_sign_says_who_wins_and_infinities_are_the_ends():
    z = torch.tensor([[math.inf, 0.0, 0.0], [-math.inf, 0.0, 0.0]])
    assert margins("logits", z) == [1, -1]
    assert margins("probabilities", torch.tensor([[200.0, 0, 0], [0, 200.0, 0]])) == [1, -1]
    assert margins("logits", torch.tensor([[1.0, 1, 0], [math.nan, 0, 0]]))[0] == 0
    assert math.isnan(margins("logits", torch.tensor([[1.0, 1, 0], [math.nan, 0, 0]]))[1])
