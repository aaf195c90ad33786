"""The MNIST and GTSRB networks of PredCoin's evaluation (its tables 10 to 12)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from arena.classifiers.networks.layers import initialise, plain_stages


class PredCoinNet(nn.Module):
    """Stages of 3x3 convolutions with a 2x2 max-pool after each, then dense layers, all rectified: the
    widths are those of PredCoin's table 10 (MNIST) or 11 (GTSRB).

    The paper leaves two things open. Padding: none here, which is Keras's default and that of the C&W
    networks. The place of table 12's dropout: here after each hidden dense layer, in training only.

    Args:
        classes: K, 10 (MNIST) or 43 (GTSRB) in the paper.
        dropout: the probability of dropping a value (table 12: 0.5).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        stages: Sequence[Sequence[int]],
        dense: Sequence[int],
        /,
        *,
        classes: int,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.features, flat = plain_stages(shape[0], shape[1], stages)
        head: list[nn.Module] = []
        for inner, outer in pairwise((flat, *dense)):
            head += [nn.Linear(inner, outer), nn.ReLU(), nn.Dropout(dropout)]
        logits = nn.Linear(dense[-1], classes)
        self.head = nn.Sequential(*head, logits)
        initialise(self, logits)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x).flatten(1))
        return logits


class PredCoinMnist(PredCoinNet):
    """PredCoin's table 10 for images [n,1,28,28]: 292,234 weights."""

    def __init__(self, *, classes: int = 10, dropout: float = 0.5) -> None:
        super().__init__((1, 28, 28), ((32, 32), (32,)), (256, 256), classes=classes, dropout=dropout)


class PredCoinGtsrb(PredCoinNet):
    """PredCoin's table 11 for images [n,3,32,32]: 524,491 weights."""

    def __init__(self, *, classes: int = 43, dropout: float = 0.5) -> None:
        stages, dense = ((32, 32), (128, 64, 64)), (256, 256, 128)
        super().__init__((3, 32, 32), stages, dense, classes=classes, dropout=dropout)
