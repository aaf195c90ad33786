"""Networks of the verification literature, as alpha-beta-CROWN publishes their weights."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from arena.classifiers.networks.layers import initialise


class CnnA(nn.Sequential):
    """CNN-A (Dathathri et al. 2020, table 3) for images [n,1,28,28]: two 4x4 convolutions of stride 2 and a
    hidden layer of 100 values; 166,406 weights."""

    def __init__(self, *, classes: int = 10) -> None:
        super().__init__(
            nn.Conv2d(1, 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, 100),
            nn.ReLU(),
            nn.Linear(100, classes),
        )
        initialise(self, self[-1])


class PlainBlock(nn.Module):
    """Two 3x3 convolutions with biases and without BatchNorm, around an identity, or around a 1x1
    convolution where the shape changes."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, padding=1)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1)
        self.shortcut = nn.Sequential()
        if stride != 1 or inner != outer:
            self.shortcut.append(nn.Conv2d(inner, outer, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


class ResNet4B(nn.Module):
    """ResNet-4B (Wang et al. 2021, beta-CROWN): four residual blocks without BatchNorm and a hidden layer of
    100 values, for images [n,3,32,32]."""

    def __init__(self, *, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.layer1 = nn.Sequential(PlainBlock(16, 32, 2), PlainBlock(32, 32, 1))
        self.layer2 = nn.Sequential(PlainBlock(32, 32, 2), PlainBlock(32, 32, 1))
        self.linear1 = nn.Linear(32 * 4 * 4, 100)
        self.linear2 = nn.Linear(100, classes)
        blocks = [layer for layer in self.modules() if isinstance(layer, PlainBlock)]
        summed = [layer for block in blocks for layer in (block.conv2, *block.shortcut)]
        initialise(self, self.linear2, *summed)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer2(self.layer1(F.relu(self.conv1(x))))
        logits: Tensor = self.linear2(F.relu(self.linear1(out.flatten(1))))
        return logits
