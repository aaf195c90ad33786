from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from agents.defenders.parts import weight_noise
from agents.defenders.parts.weight_noise import WeightNoise
from arena import draws
from arena.classifiers.keyed import keyed

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "convolution": (nn.Conv2d(3, 5, 3, padding=1), (3, 6, 6)),
    "groups and stride": (nn.Conv2d(4, 8, 3, stride=2, groups=2, bias=False), (4, 7, 7)),
    "linear": (nn.Linear(12, 5), (12,)),
}


@pytest.mark.parametrize("share", ["layer", "channel"])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_row_is_answered_by_weights_of_its_own(kind: str, share: str, ask_as) -> None:
    layer, shape = LAYERS[kind]
    noisy = WeightNoise(2, layer, share).eval()  # type: ignore[arg-type]
    noisy.alpha.data.mul_(torch.linspace(0.5, 1.5, noisy.alpha.numel()).view_as(noisy.alpha))
    x, rows = torch.rand(7, *shape), ask_as(range(7), turn=3, seed=5)
    with torch.no_grad(), keyed(rows):
        found = noisy(x)
    eta = draws.normal(draws.derive(5, "layer", 2), rows.key, rows.turn, layer.weight.shape)
    weights = layer.weight + noisy.alpha * layer.weight.std() * eta
    each = [functional_call(layer, {"weight": w}, (row[None],)) for w, row in zip(weights, x, strict=True)]
    torch.testing.assert_close(found, torch.cat(each).detach(), rtol=0, atol=1e-6)


def test_pieces_bound_what_is_held_and_change_no_answer(ask_as, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, shape = LAYERS["linear"]
    noisy, x, rows = WeightNoise(0, layer, "layer").eval(), torch.rand(7, *shape), ask_as(range(7))
    with torch.no_grad(), keyed(rows):
        whole = noisy(x)
        monkeypatch.setattr(weight_noise, "HELD", 2 * layer.weight.numel() + 1)
        held: list[int] = []
        monkeypatch.setattr(WeightNoise, "normal", spied(held))
        torch.testing.assert_close(noisy(x), whole, rtol=0, atol=1e-6)
    assert held == [2, 2, 2, 1]


def spied(held: list[int]):  # type: ignore[no-untyped-def]
    plain = WeightNoise.normal

    def normal(self: WeightNoise, x: Tensor, shape: torch.Size) -> Tensor | None:
        held.append(len(x))
        return plain(self, x, shape)

    return normal


def test_without_keys_the_weights_are_plain() -> None:
    layer, shape = LAYERS["convolution"]
    x = torch.rand(4, *shape)
    assert torch.equal(WeightNoise(0, layer, "channel").eval()(x), layer(x))


def test_in_training_the_batch_shares_a_draw_and_alpha_learns() -> None:
    """The gradient of alpha is the closed form for one linear layer: sum_ij dL/dW'_ij std(W) eta_ij."""
    layer = nn.Linear(3, 2, bias=False)
    noisy = WeightNoise(0, layer, "layer").train()
    x = torch.rand(1, 3).expand(4, 3)
    torch.manual_seed(3)
    found = noisy(x)
    assert torch.equal(found, found[:1].expand(4, 2))
    torch.manual_seed(3)
    eta = torch.randn(2, 3)
    std = noisy.layer.weight.std().detach()
    torch.testing.assert_close(found[0], (noisy.layer.weight + 0.25 * std * eta) @ x[0])
    found.sum().backward()
    expected = (torch.ones(2, 1) * x.sum(0) * std * eta).sum()
    torch.testing.assert_close(noisy.alpha.grad.sum(), expected)  # type: ignore[union-attr]
    # No gradient through std(W): that of W is as without noise.
    torch.testing.assert_close(noisy.layer.weight.grad, x.sum(0).expand(2, 3))
