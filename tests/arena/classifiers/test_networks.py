from __future__ import annotations

import pytest
import torch

from arena.classifiers.networks import NETWORKS, Normalised
from arena.classifiers.networks.cifar_resnet import CifarBlock
from arena.classifiers.networks.digits import DigitsNet


def test_digits_net_has_its_size() -> None:
    net = DigitsNet()
    convolutions = (1 * 32 + 32 * 32 + 32 * 64) * 9 + 32 + 32 + 64
    assert sum(p.numel() for p in net.parameters()) == convolutions + 256 * 48 + 48 + 48 * 10 + 10 == 40_890
    assert net(torch.rand(3, 1, 8, 8)).shape == (3, 10)


@pytest.mark.parametrize(("name", "blocks"), [("resnet20", 3), ("resnet32", 5)])
def test_cifar_resnet_has_the_published_keys(name: str, blocks: int) -> None:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    keys = {"conv1.weight", "linear.weight", "linear.bias"} | {f"bn1.{part}" for part in norm}
    for stage in (1, 2, 3):
        for block in range(blocks):
            for i in (1, 2):
                place = f"layer{stage}.{block}"
                keys |= {f"{place}.conv{i}.weight"} | {f"{place}.bn{i}.{part}" for part in norm}
    net = NETWORKS[name].factory().eval()
    assert net.state_dict().keys() == keys
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    layers = sum(isinstance(layer, torch.nn.Conv2d | torch.nn.Linear) for layer in net.modules())
    assert layers == int(name.removeprefix("resnet"))


def test_shortcut_subsamples_and_pads_with_zero_channels_on_both_sides() -> None:
    block = CifarBlock(2, 4, stride=2).eval()
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.rand(3, 2, 6, 6)
    out = block(x)
    assert out.shape == (3, 4, 3, 3)
    assert torch.equal(out[:, 1:3], x[:, :, [0, 2, 4]][..., [0, 2, 4]])
    assert not out[:, [0, 3]].any()


def test_normalisation_stands_before_the_network() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    x = torch.rand(2, 3, 4, 4)
    column = (1, 3, 1, 1)
    normalised = (x - torch.tensor(mean).view(column)) / torch.tensor(std).view(column)
    assert torch.equal(Normalised(torch.nn.Identity(), mean, std)(x), normalised)
    assert torch.equal(Normalised(torch.nn.Identity(), (0.5,), (2.0,))(x), (x - 0.5) / 2)


@pytest.mark.parametrize(("mean", "std"), [((), ()), ((0.5,), (1.0, 1.0)), ((0.5,), (0.0,))])
def test_a_normalisation_that_is_none_is_refused(mean: tuple[float], std: tuple[float]) -> None:
    with pytest.raises(ValueError, match="mean and std must be as many"):
        Normalised(torch.nn.Identity(), mean, std)
