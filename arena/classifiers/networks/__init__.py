"""Networks by name, one paper or family a file. They take normalised images: `Normalised` stands before."""

from __future__ import annotations

from functools import partial

from arena.classifiers.networks.cifar_resnet import CifarResNet
from arena.classifiers.networks.digits import DigitsNet
from arena.classifiers.networks.network import Network, Normalised

__all__ = ["NETWORKS", "Network", "Normalised"]

_CIFAR = (3, 32, 32)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

NETWORKS: dict[str, Network] = {
    "digits-cnn": Network(DigitsNet, (1, 8, 8)),
    "resnet20": Network(partial(CifarResNet, 3), _CIFAR, _IMAGENET_MEAN, _IMAGENET_STD),
    "resnet32": Network(partial(CifarResNet, 5), _CIFAR, _IMAGENET_MEAN, _IMAGENET_STD),
}
