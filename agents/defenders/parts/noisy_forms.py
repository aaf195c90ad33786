"""Networks with noise in them, as forms in which they are trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from agents.defenders.parts.feature_noise import FeatureNoise
from agents.defenders.parts.surgery import changed, executed, first_free_number
from agents.defenders.parts.weight_noise import Share, WeightNoise


@dataclass(frozen=True)
class NoisyConvolutions:
    """Gaussian noise on the image, and before every convolution but the first that a pass meets.

    Attributes:
        shape: [C,H,W] of the images.
        first: the standard deviation of the noise on the image, in pixel units of [0,1].
        inner: that of the noise before the other convolutions, in the features' own units.

    Raises:
        ValueError: if a pass meets no convolution.
    """

    shape: tuple[int, int, int]
    first: float
    inner: float

    def __call__(self, module: nn.Module) -> nn.Module:
        number, found = first_free_number(module), executed(module, self.shape, nn.Conv2d)
        if not found:
            raise ValueError("there is no convolution in this network before which noise could be put")
        change = {name: self._before(number + n) for n, name in enumerate(found) if n}
        return nn.Sequential(FeatureNoise(number, self.first), changed(module, change))

    def _before(self, number: int) -> Callable[[nn.Module], nn.Module]:
        return lambda layer: nn.Sequential(FeatureNoise(number, self.inner), layer)


@dataclass(frozen=True)
class NoisyWeights:
    """Noise on the weights of all convolutions and dense layers.

    Attributes:
        share: as for `WeightNoise`.

    Raises:
        ValueError: if there are none, or they have such noise already.
    """

    share: Share

    def __call__(self, module: nn.Module) -> nn.Module:
        if any(isinstance(layer, WeightNoise) for layer in module.modules()):
            raise ValueError("this network has noise on its weights already")
        number = first_free_number(module)
        names = [name for name, layer in module.named_modules() if _takes_noise(layer)]
        if not names:
            raise ValueError("there is no convolution or dense layer in this network")
        return changed(module, {name: self._of(number + n) for n, name in enumerate(names)})

    def _of(self, number: int) -> Callable[[nn.Module], nn.Module]:
        return lambda layer: WeightNoise(number, layer, self.share)


def _takes_noise(layer: nn.Module) -> bool:
    """Whether it is a convolution or a dense layer; torch's attention reads the weights of its last one past
    the layer."""
    attention = nn.modules.linear.NonDynamicallyQuantizableLinear
    return isinstance(layer, nn.Conv2d | nn.Linear) and not isinstance(layer, attention)
