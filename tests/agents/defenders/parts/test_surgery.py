from __future__ import annotations

import torch
from torch import nn

from agents.defenders.parts.feature_noise import FeatureNoise
from agents.defenders.parts.surgery import changed, executed, first_free_number


def network() -> nn.Module:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU())
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), block, nn.Flatten(), nn.Linear(32, 3)).eval()


class Backwards(nn.Module):
    """Calls its layers in another order than it has them, and one of them never."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.first, self.idle = (nn.Conv2d(1, 1, 1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.first(self.first(x)))
        return out.flatten(1)


def test_layers_within_layers_are_changed() -> None:
    module = network()
    made = changed(
        network(), {name: lambda layer: nn.Sequential(nn.Identity(), layer) for name in ("1", "1.0")}
    )
    assert [name for name, _ in made.named_modules() if "1.1" in name][:3] == ["1.1", "1.1.0", "1.1.0.0"]
    x = torch.rand(3, 1, 4, 4)
    assert torch.equal(made(x), module(x))
    assert len([*module.modules()]) + 4 == len([*made.modules()])


def test_layers_are_listed_as_a_pass_meets_them() -> None:
    assert executed(Backwards(), (1, 2, 2), nn.Conv2d) == ["first", "last"]
    assert executed(Backwards(), (1, 2, 2), nn.Linear) == []


def test_numbers_go_on_after_those_of_layers_that_are_there() -> None:
    module = network()
    assert first_free_number(module) == 0
    noisy = changed(module, {"1": lambda layer: nn.Sequential(FeatureNoise(4, 0.1), layer)})
    assert first_free_number(noisy) == 5
