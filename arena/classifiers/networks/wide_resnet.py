"""The wide ResNets (Zagoruyko & Komodakis 2016)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from arena.classifiers.networks.layers import initialise


class WideBlock(nn.Module):
    """BatchNorm and ReLU before each of two 3x3 convolutions, dropout between them; where the width changes,
    the shortcut is a 1x1 convolution of the activated input, which both branches share."""

    def __init__(self, inner: int, outer: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.projects = stride != 1 or inner != outer
        if self.projects:
            self.convShortcut = nn.Conv2d(inner, outer, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        out: Tensor = self.conv2(self.dropout(F.relu(self.bn2(self.conv1(active)))))
        return out + (self.convShortcut(active) if self.projects else x)


class WideStage(nn.Module):
    """`blocks` wide blocks, the first of which changes width and size."""

    def __init__(self, blocks: int, inner: int, outer: int, stride: int, dropout: float) -> None:
        super().__init__()
        rest = (WideBlock(outer, outer, 1, dropout) for _ in range(blocks - 1))
        self.layer = nn.Sequential(WideBlock(inner, outer, stride, dropout), *rest)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class WideResNet(nn.Module):
    """WRN-depth-widen (Zagoruyko & Komodakis 2016, table 1) for images [n,3,32,32]; WRN-28-10 has 36,479,194
    weights. Keys are those of TRADES and of most of RobustBench.

    Args:
        classes: K.
        depth: the number of layers, 6*n + 4 with n blocks a stage.
        widen: the paper's k: the stages are 16k, 32k and 64k channels wide.
        dropout: the probability of dropping a value between a block's convolutions in training (sec. 2.4;
            0.3 there for CIFAR, when it is used).
        sub_block1: whether the weights hold a second copy of the first stage, `sub_block1`, as those of
            TRADES and its followers do; no answer depends on it.
    """

    def __init__(
        self,
        *,
        classes: int = 10,
        depth: int = 28,
        widen: int = 10,
        dropout: float = 0.0,
        sub_block1: bool = False,
    ) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 4, 6)
        if blocks < 1 or rest:
            raise ValueError(f"a wide ResNet's depth must be 6*n + 4 (10, 16, 22, 28, ...), not {depth}")
        if widen < 1:
            raise ValueError(f"a wide ResNet's widen must be at least 1, not {widen}")
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = WideStage(blocks, 16, 16 * widen, 1, dropout)
        if sub_block1:
            self.sub_block1 = WideStage(blocks, 16, 16 * widen, 1, dropout)
        self.block2 = WideStage(blocks, 16 * widen, 32 * widen, 2, dropout)
        self.block3 = WideStage(blocks, 32 * widen, 64 * widen, 2, dropout)
        self.bn1 = nn.BatchNorm2d(64 * widen)
        self.fc = nn.Linear(64 * widen, classes)
        initialise(self, self.fc)

    def forward(self, x: Tensor) -> Tensor:
        out = self.block3(self.block2(self.block1(self.conv1(x))))
        logits: Tensor = self.fc(F.relu(self.bn1(out)).mean(dim=(2, 3)))
        return logits
