"""Test images read straight from their files, and the functional pieces that the references are made of."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from arena.classifiers.networks import NETWORKS, Normalised

Images = tuple[Tensor, Tensor]


@pytest.fixture(scope="session")
def mnist(shared_data: Path) -> Images:
    """The first 300 test images [300,1,28,28] in [0,1] and their labels."""
    if not (folder := shared_data / "mnist").is_dir():
        pytest.skip(f"no MNIST in {shared_data}")
    x, y = (
        np.frombuffer(gzip.decompress((folder / f"t10k-{name}-ubyte.gz").read_bytes())[header:], np.uint8)
        for name, header in (("images-idx3", 16), ("labels-idx1", 8))
    )
    return torch.tensor(x[: 300 * 784]).view(300, 1, 28, 28) / 255, torch.tensor(y[:300]).long()


@pytest.fixture(scope="session")
def cifar10(shared_data: Path) -> Images:
    """The first 300 test images [300,3,32,32] in [0,1] and their labels."""
    if not (file := shared_data / "cifar-10-batches-bin" / "test_batch.bin").is_file():
        pytest.skip(f"no CIFAR-10 in {shared_data}")
    rows = torch.from_numpy(np.fromfile(file, np.uint8, 300 * 3073)).view(300, 3073)
    return rows[:, 1:].view(300, 3, 32, 32) / 255, rows[:, 0].long()


@pytest.fixture(scope="session")
def right(shared_data: Path) -> Callable[[str, str, Images], int]:
    """How many of some images a network of the table gets right with a published weight file."""

    def count(name: str, weights: str, images: Images) -> int:
        known = NETWORKS[name]
        net = known.factory()
        own = net.state_dict().keys()
        given = load_file(shared_data / "weights" / f"{weights}.safetensors")
        assert given.keys() == {key for key in own if not key.endswith("num_batches_tracked")}
        net.load_state_dict(given, strict=False)
        x, y = images
        with torch.inference_mode():
            return int((Normalised(net, known.mean, known.std).eval()(x).argmax(1) == y).sum())

    return count


class Reference:
    """A state dict and the operations that a paper writes a network with; `str` names a layer."""

    def __init__(self, net: nn.Module) -> None:
        self.state = net.state_dict()

    def conv(self, x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        return F.conv2d(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"), stride, padding)

    def bn(self, x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (
            self.state[f"{name}.{part}"].view(-1, 1, 1)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return torch.addcmul(bias, (x - mean) / (var + 1e-5).sqrt(), weight)

    def relu_bn(self, x: Tensor, name: str) -> Tensor:
        return self.bn(x, name).clamp(min=0)

    def linear(self, x: Tensor, name: str) -> Tensor:
        return torch.addmm(self.state[f"{name}.bias"], x, self.state[f"{name}.weight"].T)


@pytest.fixture(scope="session")
def reference() -> Callable[[nn.Module], Reference]:
    """Puts a network in eval mode and float64, with random BatchNorms and biases, for a reference."""

    def make(net: nn.Module) -> Reference:
        net.double().eval()
        generator = torch.Generator().manual_seed(5)
        for key, value in net.state_dict().items():
            if value.dim() == 1:
                value.copy_(torch.rand(value.shape, generator=generator, dtype=value.dtype) + 0.5)
                if key.endswith(("bias", "running_mean")):
                    value.sub_(1)
        return Reference(net)

    return make
