from dataclasses import replace
from itertools import product

import pytest
import torch

from agents.attackers.parts.repeated_labels import merge_labels


def naive(labels, rule, *, y=0, target=None, classes=3):
    """The label of repeats, in plain Python; -1: no label, None: not answered."""
    answered = [label for label in labels if label is not None]
    labelled = [label for label in answered if label >= 0]

    def wins(label):
        return label >= 0 and (label != y if target is None else label == target)

    def most(among):
        return max(range(classes), key=lambda k: (among.count(k), -k)) if among else -1

    if not labelled:
        return -1
    if rule == "plurality":
        top = max(labelled.count(k) for k in range(classes))
        tied = [k for k in range(classes) if labelled.count(k) == top]
        return min(tied, key=lambda k: (wins(k), k))
    hits = sum(wins(label) for label in answered)
    won = {"any": hits > 0, "all": hits == len(answered), "majority": 2 * hits > len(answered)}[rule]
    return most([label for label in labelled if wins(label) == won])


@pytest.mark.parametrize("target", [None, 1, 2])
@pytest.mark.parametrize("rule", ["plurality", "any", "all", "majority"])
@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_the_rules_are_those_of_a_count_by_hand(says, asks, m, rule, target):
    rows = list(product([0, 1, 2, -1, None], repeat=m))
    games = says([], games=1, classes=3, target=target).seat
    label = torch.tensor([[-1 if a is None else a for a in row] for row in rows])
    answered = torch.tensor([[a is not None for a in row] for row in rows])
    state = games.state
    answers = replace(
        state,
        game=torch.zeros(len(rows) * m, dtype=torch.int64),
        label=label.flatten(),
        answered=answered.flatten(),
        refused=~answered.flatten(),
    )
    merged = merge_labels(games, rule)(answers, m)
    assert merged.label.tolist() == [naive(row, rule, target=target) for row in rows]
    assert torch.equal(merged.answered, answered.any(dim=1))
    assert torch.equal(merged.refused, ~answered.any(dim=1))
    assert merged.scores is None and len(merged.game) == len(rows)
