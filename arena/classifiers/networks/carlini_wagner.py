"""The MNIST and CIFAR-10 networks of Carlini & Wagner 2017, table 1."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from arena.classifiers.networks.layers import initialise, plain_stages


class CarliniWagnerNet(nn.Module):
    """Two stages of two 3x3 convolutions without padding, `width` and 2*`width` channels wide, a 2x2
    max-pool after each, and two hidden layers of `dense` values.

    Table 1 has no BatchNorm, and its weights take images in [-0.5,0.5]. The PyTorch versions that Sign-OPT
    (and RayS) attack put a BatchNorm after each convolution and take images in [0,1] as they are; their
    keys (`features.N`, `fc1`, `fc2`, `fc3`) are used for both.

    Args:
        classes: K.
        dropout: the probability of dropping a hidden dense layer's values in training, after the first
            such layer (Carlini & Wagner's code), or after both if there is BatchNorm (Sign-OPT's).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int,
        dense: int,
        batch_norm: bool,
        /,
        *,
        classes: int = 10,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        stages = ((width, width), (2 * width, 2 * width))
        self.features, flat = plain_stages(shape[0], shape[1], stages, batch_norm)
        self.fc1 = nn.Linear(flat, dense)
        self.dropout1 = nn.Dropout(dropout)
        self.fc2 = nn.Linear(dense, dense)
        self.dropout2 = nn.Dropout(dropout if batch_norm else 0.0)
        self.fc3 = nn.Linear(dense, classes)
        initialise(self, self.fc3)

    def forward(self, x: Tensor) -> Tensor:
        out = self.dropout1(F.relu(self.fc1(self.features(x).flatten(1))))
        logits: Tensor = self.fc3(self.dropout2(F.relu(self.fc2(out))))
        return logits
