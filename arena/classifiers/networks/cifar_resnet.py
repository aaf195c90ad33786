"""The CIFAR ResNets (He et al. 2016, sec. 4.2)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from arena.classifiers.networks.layers import initialise


class CifarBlock(nn.Module):
    """Two 3x3 convolutions around an option-A shortcut: subsampled by the stride, new channels zero (He et
    al. 2016, sec. 3.3 and 4.2), half of them before and half after the old ones."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.stride, self.extra = stride, outer - inner

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.extra:
            before = self.extra // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.extra - before))
        return F.relu(out + x)


class CifarResNet(nn.Module):
    """He et al. 2016, sec. 4.2: the CIFAR ResNet of 6*blocks + 2 layers, for images [n,3,32,32]."""

    def __init__(self, blocks: int, *, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(blocks, 16, 16, 1)
        self.layer2 = self._stage(blocks, 16, 32, 2)
        self.layer3 = self._stage(blocks, 32, 64, 2)
        self.linear = nn.Linear(64, classes)
        initialise(self, self.linear)

    @staticmethod
    def _stage(blocks: int, inner: int, outer: int, stride: int) -> nn.Sequential:
        rest = (CifarBlock(outer, outer, 1) for _ in range(blocks - 1))
        return nn.Sequential(CifarBlock(inner, outer, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        logits: Tensor = self.linear(out.mean(dim=(2, 3)))
        return logits
