"""Networks by name, one file per paper or family. They take normalised images: `Normalised` is put in front.

Mean and standard deviation are those of the published weights of a network. Networks trained here start from
He's initialisation, the digits' network from torch's own.
"""

from __future__ import annotations

from functools import partial

from arena.classifiers.networks.alpha_beta_crown import CnnA, ResNet4B
from arena.classifiers.networks.carlini_wagner import CarliniWagnerNet
from arena.classifiers.networks.cifar_resnet import CifarResNet
from arena.classifiers.networks.digits import DigitsNet
from arena.classifiers.networks.network import Network, Normalised
from arena.classifiers.networks.preact_resnet import PreActResNet18
from arena.classifiers.networks.predcoin import PredCoinGtsrb, PredCoinMnist
from arena.classifiers.networks.resnet import CifarResNet50, ResNet50
from arena.classifiers.networks.vgg import VGG16
from arena.classifiers.networks.wide_resnet import WideResNet

__all__ = ["NETWORKS", "Network", "Normalised"]

_MNIST, _CIFAR, _IMAGENET = (1, 28, 28), (3, 32, 32), (3, 224, 224)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CIFAR_MEAN, _CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
_CIFAR_STD_OF_MEANS = (0.2023, 0.1994, 0.2010)  # over the pixels of an image, then averaged, as is common
_CW_MEAN = (0.5,)

NETWORKS: dict[str, Network] = {
    "digits-cnn": Network(DigitsNet, (1, 8, 8)),
    "predcoin-mnist": Network(PredCoinMnist, _MNIST),
    "predcoin-gtsrb": Network(PredCoinGtsrb, _CIFAR),
    "cw-mnist": Network(partial(CarliniWagnerNet, _MNIST, 32, 200, False), _MNIST, _CW_MEAN),
    "cw-mnist-bn": Network(partial(CarliniWagnerNet, _MNIST, 32, 200, True), _MNIST),
    "cw-cifar10": Network(partial(CarliniWagnerNet, _CIFAR, 64, 256, False), _CIFAR, _CW_MEAN),
    "cw-cifar10-bn": Network(partial(CarliniWagnerNet, _CIFAR, 64, 256, True), _CIFAR),
    "cnn-a": Network(CnnA, _MNIST),
    "resnet4b": Network(ResNet4B, _CIFAR, _CIFAR_MEAN, _CIFAR_STD),
    "resnet20": Network(partial(CifarResNet, 3), _CIFAR, _IMAGENET_MEAN, _IMAGENET_STD),
    "resnet32": Network(partial(CifarResNet, 5), _CIFAR, _IMAGENET_MEAN, _IMAGENET_STD),
    "resnet44": Network(partial(CifarResNet, 7), _CIFAR, _IMAGENET_MEAN, _IMAGENET_STD),
    "resnet56": Network(partial(CifarResNet, 9), _CIFAR, _IMAGENET_MEAN, _IMAGENET_STD),
    "preact-resnet18": Network(PreActResNet18, _CIFAR, _CIFAR_MEAN, _CIFAR_STD),
    "vgg16": Network(VGG16, _CIFAR, _CIFAR_MEAN, _CIFAR_STD_OF_MEANS),
    "wrn-28-10": Network(WideResNet, _CIFAR),
    "cifar-resnet50": Network(CifarResNet50, _CIFAR, _CIFAR_MEAN, _CIFAR_STD_OF_MEANS),
    "resnet50": Network(ResNet50, _IMAGENET, _IMAGENET_MEAN, _IMAGENET_STD),
}
