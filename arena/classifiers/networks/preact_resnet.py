"""The pre-activation ResNet-18 for CIFAR (He et al. 2016b, Identity Mappings in Deep Residual Networks)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from arena.classifiers.networks.layers import initialise


class PreActBlock(nn.Module):
    """BatchNorm and ReLU before each of two 3x3 convolutions (He et al. 2016b, fig. 4e); where the shape
    changes, the shortcut is a 1x1 convolution of the activated input, which both branches share."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.projects = stride != 1 or inner != outer
        if self.projects:
            self.shortcut = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return out + (self.shortcut(active) if self.projects else x)


class PreActResNet18(nn.Module):
    """Four stages of two pre-activation blocks, 64 to 512 channels wide, for images [n,3,32,32]: 11,172,170
    weights.

    Weights without the final BatchNorm (`bn`), as some adversarially trained ones are, belong to a variant
    with raw shortcuts and do not fit.
    """

    def __init__(self, *, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.layer1 = nn.Sequential(PreActBlock(64, 64, 1), PreActBlock(64, 64, 1))
        self.layer2 = nn.Sequential(PreActBlock(64, 128, 2), PreActBlock(128, 128, 1))
        self.layer3 = nn.Sequential(PreActBlock(128, 256, 2), PreActBlock(256, 256, 1))
        self.layer4 = nn.Sequential(PreActBlock(256, 512, 2), PreActBlock(512, 512, 1))
        self.bn = nn.BatchNorm2d(512)
        self.linear = nn.Linear(512, classes)
        initialise(self, self.linear)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        logits: Tensor = self.linear(F.relu(self.bn(out)).mean(dim=(2, 3)))
        return logits
