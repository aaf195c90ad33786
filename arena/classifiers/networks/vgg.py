"""VGG-16 for CIFAR (Simonyan and Zisserman, ICLR 2015, configuration D)."""

from __future__ import annotations

from torch import Tensor, nn

from arena.classifiers.networks.layers import initialise

STAGES = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)
"""The widths of the 3x3 convolutions; a 2x2 max-pool follows each stage."""


class VGG16(nn.Module):
    """VGG-16 with BatchNorm, for images [n,3,32,32]: 14,728,266 weights with 10 classes.

    As kuangliu/pytorch-cifar has it, from where most papers have theirs on CIFAR-10, keys too (`features.N`,
    `classifier`): after five stages one value of each of 512 channels is left, and one linear layer in place
    of the paper's three.
    """

    def __init__(self, *, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inner = 3
        for stage in STAGES:
            for width in stage:
                layers += [nn.Conv2d(inner, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                inner = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(inner, classes)
        initialise(self, self.classifier)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits
