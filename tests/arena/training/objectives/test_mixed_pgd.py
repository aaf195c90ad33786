"""Half clean and half adversarial images, away from the network's own answers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arena.classifiers.keyed import KeyedLayer
from arena.training.objectives import Circumstances, MixedPGDTraining


class Noise(KeyedLayer):
    def forward(self, x: Tensor) -> Tensor:
        noise = self.normal(x, x.shape[1:])
        return x if noise is None else x + noise


class Watched(nn.Module):
    """A linear network that notes in which modes it and its noise are asked, and about what."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = Noise(0)
        self.linear = nn.Linear(4, 3)
        self.asked: list[tuple[bool, bool, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append((self.training, self.noise.training, x.detach().clone()))
        out: Tensor = self.linear(x.flatten(1))
        return out + 0 * self.noise(x).flatten(1)[:, :1]


def lesson(objective: MixedPGDTraining, epoch: int) -> tuple[Watched, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    model = Watched().train()
    x, labels = torch.rand(6, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    around = Circumstances(torch.Generator().manual_seed(1), epoch)
    loss, _ = objective.lesson(model, x, labels, around)
    return model, x, labels, loss


OBJECTIVE = MixedPGDTraining(epsilon=0.1, step=0.2, steps=2, after=2)


def test_the_adversarial_half_is_the_worst_image_for_the_networks_own_answer() -> None:
    """On a linear network the sign of the gradient is known: long steps end in the ball's worst corner."""
    model, x, labels, loss = lesson(OBJECTIVE, epoch=2)
    logits = model.linear(x.flatten(1))
    own = logits.argmax(1)
    worst = model.asked[-1][2]
    slope = (logits.softmax(1) - F.one_hot(own, 3)) @ model.linear.weight
    corner = (x + 0.1 * slope.sign().view_as(x)).clamp(0, 1)
    assert (worst == corner).flatten(1).all(1).sum() >= 5  # the sign may change on the way
    assert (own != labels).any()
    expected = (F.cross_entropy(logits, labels) + F.cross_entropy(model.linear(worst.flatten(1)), labels)) / 2
    torch.testing.assert_close(loss, expected)


def test_layers_that_draw_go_on_drawing_during_the_search_and_the_rest_is_as_at_play() -> None:
    model, *_ = lesson(OBJECTIVE, epoch=2)
    assert [(training, noise) for training, noise, _ in model.asked] == [
        (True, True),
        (False, True),
        (False, True),
        (True, True),
    ]


def test_the_first_epochs_are_clean() -> None:
    model, x, labels, loss = lesson(OBJECTIVE, epoch=1)
    assert len(model.asked) == 1
    torch.testing.assert_close(loss, F.cross_entropy(model.linear(x.flatten(1)), labels))


def test_it_counts_its_passes() -> None:
    assert OBJECTIVE.passes == 4
    with pytest.raises(ValueError):
        MixedPGDTraining(epsilon=0.1, step=0.1, steps=1, after=-1)
