"""ResNet-50 (He et al. 2016, table 1), for ImageNet and for CIFAR."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from arena.classifiers.networks.layers import initialise


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut, projected where the shape changes (He et al. 2016,
    fig. 5 and option B); the stride is in the 3x3 convolution ("v1.5"), as in the common weights.

    `shortcut` is the shortcut's name in the keys of the state dict.
    """

    def __init__(self, inner: int, width: int, stride: int, shortcut: str) -> None:
        super().__init__()
        outer = 4 * width
        self.conv1 = nn.Conv2d(inner, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outer, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outer)
        projection = nn.Sequential()
        if stride != 1 or inner != outer:
            projection.extend((nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer)))
        self.add_module(shortcut, projection)
        self.shortcut_name = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + getattr(self, self.shortcut_name)(x))


class Bottlenecks(nn.Module):
    """What every ResNet-50 has: a stem with BatchNorm and ReLU, and stages of 3, 4, 6 and 3 bottlenecks."""

    def __init__(self, stem: nn.Conv2d, shortcut: str) -> None:
        super().__init__()
        self.conv1 = stem
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = self._stage(3, 64, 64, 1, shortcut)
        self.layer2 = self._stage(4, 256, 128, 2, shortcut)
        self.layer3 = self._stage(6, 512, 256, 2, shortcut)
        self.layer4 = self._stage(3, 1024, 512, 2, shortcut)

    @staticmethod
    def _stage(blocks: int, inner: int, width: int, stride: int, shortcut: str) -> nn.Sequential:
        rest = (Bottleneck(4 * width, width, 1, shortcut) for _ in range(blocks - 1))
        return nn.Sequential(Bottleneck(inner, width, stride, shortcut), *rest)

    def stem(self, x: Tensor) -> Tensor:
        """The first layer's activations [n,64,h,w]."""
        return F.relu(self.bn1(self.conv1(x)))

    def pooled(self, x: Tensor) -> Tensor:
        """Activations [n,64,h,w] -> features [n,2048]."""
        out: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return out.mean(dim=(2, 3))


class ResNet50(Bottlenecks):
    """ResNet-50 for ImageNet, images [n,3,224,224]: 25,557,032 weights, keys as torchvision names them."""

    def __init__(self, *, classes: int = 1000) -> None:
        super().__init__(nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), "downsample")
        self.fc = nn.Linear(2048, classes)
        initialise(self, self.fc)

    def forward(self, x: Tensor) -> Tensor:
        out = F.max_pool2d(self.stem(x), 3, stride=2, padding=1)
        logits: Tensor = self.fc(self.pooled(out))
        return logits


class CifarResNet50(Bottlenecks):
    """ResNet-50 behind a 3x3 stem of stride 1, for images [n,3,32,32]: 23,520,842 weights, keys of the common
    CIFAR layout (`shortcut`, `linear`).

    It is the closest to PredCoin's CIFAR-10 network, "ResNet50" or "ResNet.V1.50" after He et al. with
    92.41 % (its table 3 and appendix B). The paper gives no more details; the name would also fit a
    `CifarResNet` of 8 blocks a stage, which is 50 layers deep.
    """

    def __init__(self, *, classes: int = 10) -> None:
        super().__init__(nn.Conv2d(3, 64, 3, padding=1, bias=False), "shortcut")
        self.linear = nn.Linear(2048, classes)
        initialise(self, self.linear)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.pooled(self.stem(x)))
        return logits
