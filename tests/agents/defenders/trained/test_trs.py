from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from agents.defenders.parts.ensemble import Ensemble, Several
from agents.defenders.trained.trs import TRS
from arena.game.blame import DefenderError
from arena.game.prepared import read, written
from arena.game.stack import prepare
from arena.game.stack_oracle import StackOracle
from tests.agents.defenders.trained.small_task import Parts, accuracy, small

BRIEF = TRS(epochs=8, rate=0.01, epsilon=0.05, last_epsilon=0.05)


def test_an_ensemble_answers_the_log_of_the_mean_probabilities() -> None:
    members = [small().copied().module for _ in range(3)]
    for member in members:
        member.load_state_dict(
            {
                k: v + 0.3 * torch.randn_like(v) if v.is_floating_point() and "running" not in k else v
                for k, v in member.state_dict().items()
            }
        )
    x = Parts(8).train.images
    expected = torch.stack([member(x).double().softmax(1) for member in members]).mean(0).log()
    torch.testing.assert_close(Ensemble(members)(x).double(), expected, rtol=0, atol=1e-5)


def likeness(ensemble: Ensemble, parts: Parts) -> float:
    """The mean |cos| of the members' gradients of the cross-entropy."""
    x = parts.calibration.images.clone().requires_grad_(True)
    slopes = [
        torch.autograd.grad(F.cross_entropy(member(x), parts.calibration.labels), x)[0].flatten(1)
        for member in ensemble.members
    ]
    pairs = ((0, 1), (0, 2), (1, 2))
    return sum(float(F.cosine_similarity(slopes[i], slopes[j]).abs().mean()) for i, j in pairs) / 3


def test_members_begin_apart_and_training_turns_their_gradients_away_from_each_other() -> None:
    parts = Parts()
    alike = TRS(epochs=8, rate=0.01, similarity=0.0, smoothness=0.0, epsilon=0.0)
    found = [defender.harden(small(), parts) for defender in (alike, BRIEF)]
    first, *others = found[0].module.members  # type: ignore[union-attr,misc]
    assert all(not torch.equal(first[0].weight, other[0].weight) for other in others)
    plain, apart = (likeness(one.module, parts) for one in found)  # type: ignore[arg-type]
    assert apart < 0.8 * plain
    for one in found:
        assert accuracy(one(parts.train.images), parts.train.labels) > 0.9


def test_it_is_written_and_read_back_and_is_not_random(ask_as) -> None:
    parts = Parts()
    stack = prepare(small(), [BRIEF], parts)
    again = read(written(stack), small(), [BRIEF])
    x, rows = parts.train.images[:5], ask_as(range(5))
    first, second = (StackOracle(s, seed=2, games=5).respond(x, rows).scores for s in (stack, again))
    assert torch.equal(first, second)
    assert not stack.random and stack.answers_are_facts


def test_probabilities_are_refused() -> None:
    classifier = small().copied()
    classifier.reading = object()  # type: ignore[assignment]
    with pytest.raises(ValueError, match="trs averages softmax"):
        BRIEF.form(classifier)
    with pytest.raises(DefenderError, match="trains members of a network against each other"):
        prepare(small(), [WithoutMembers(epochs=1)], Parts())
    assert len(Several(4)(small().copied().module).members) == 4  # type: ignore[arg-type]


class WithoutMembers(TRS):
    def form(self, classifier: Any) -> Any:
        return None


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"members": 1}, "members must be from 2 to 100; found 1"),
        ({"scale": -1.0}, "scale must be finite and at least 0; found -1.0"),
        ({"last_epsilon": 2.0}, "last_epsilon must be from 0 to 1; found 2.0"),
    ],
)
def test_bad_parameters_get_one_sentence(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        TRS(**parameters)
    assert str(caught.value) == said
