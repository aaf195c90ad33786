"""Surrogates: small networks that learn to answer as the victim does, from the queries of a match."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from arena import draws
from arena.players import Answers, Games
from arena.rules.losses import as_logits

MOMENTUM, WEIGHT_DECAY, LONGEST_GRADIENT = 0.9, 3e-4, 5.0
"""Of the optimiser, as in the code of QueryNet and of AAA."""
CELLS = 4
"""The head sees means over CELLS x CELLS cells of the image."""
ROWS = 512
"""Images that a surrogate looks at together."""


class Pairs:
    """The last `most` queries of all games and the logits they were answered with.

    Logits are kept less their mean over the classes, which changes no loss: then the logarithms of
    probabilities are the same numbers as the logits (`arena.rules.losses.as_logits`).

    Attributes:
        x, z: [most,C,H,W] and [most,K], of which the first `len` rows are held.
    """

    def __init__(self, games: Games, most: int) -> None:
        most = min(most, len(games) * games.threat.budget)
        self.x = games.x0.new_empty((most, *games.x0.shape[1:]))
        self.z = games.x0.new_empty((most, games.classes))
        self.seen = 0

    def forget(self) -> None:
        """Hold none, and no memory for any."""
        self.x, self.z, self.seen = self.x[:0].clone(), self.z[:0].clone(), 0

    def __len__(self) -> int:
        return min(self.seen, len(self.x))

    def add(self, games: Games, x: Tensor, answers: Answers) -> None:
        """Keep the rows of `x` [n,C,H,W] that were answered by finite scores; the oldest make room."""
        if answers.scores is None:
            return
        threat = games.threat
        z = as_logits(answers.scores, logits=threat.feedback == "logits", partial=threat.top_k is not None)
        z = z - z.mean(dim=1, keepdim=True)
        rows = (answers.answered & z.isfinite().all(dim=1)).nonzero().squeeze(1)[-len(self.x) :]
        place = (self.seen + torch.arange(len(rows), device=rows.device)) % len(self.x)
        self.x[place], self.z[place] = x[rows], z[rows]
        self.seen += len(rows)

    def deviation(self) -> float:
        """The standard deviation of the logits held; 1 where they are all the same."""
        deviation = float(self.z[: len(self)].double().square().mean().sqrt())
        return deviation if 0 < deviation < math.inf else 1.0


class ResidualNet(nn.Module):
    """A stem, residual blocks with pre-activation (He et al., Identity Mappings, 2016), and a linear head.

    Images [n,C,H,W] in [0,1] -> logits [n,K]. The stem has stride 2 where the image has 16 pixels or more a
    side; behind half of the blocks, means over 2 x 2 pixels are taken.
    """

    def __init__(
        self, shape: tuple[int, ...], classes: int, width: int, depth: int, device: torch.device
    ) -> None:
        super().__init__()
        channels, *sides = shape
        stride = 2 if min(sides) >= 16 else 1
        self.stem = convolution(channels, width, device, stride)
        self.blocks = nn.ModuleList(ResidualBlock(width, device) for _ in range(depth))
        self.norm = nn.BatchNorm2d(width, device=device)
        sides = [-(-side // stride) for side in sides]
        self.halved_behind = (depth + 1) // 2 if min(sides) >= 2 * CELLS else 0
        if self.halved_behind:
            sides = [-(-side // 2) for side in sides]
        self.cell = [max(1, side // CELLS) for side in sides]
        cells = math.prod(-(-side // cell) for side, cell in zip(sides, self.cell, strict=True))
        self.head = nn.Linear(width * cells, classes, device="meta").to_empty(device=device)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(4 * x - 2)
        for place, block in enumerate(self.blocks, start=1):
            h = block(h)
            if place == self.halved_behind:
                h = F.avg_pool2d(h, 2, ceil_mode=True)
        h = F.avg_pool2d(F.relu(self.norm(h)), self.cell, ceil_mode=True)
        logits: Tensor = self.head(h.flatten(1))
        return logits

    def initialise(self, normal: Callable[[torch.Size], Tensor]) -> None:
        """He initialisation from draws; the last layer of each block is zero, as if there were no block."""
        last = {block.second for block in self.blocks if isinstance(block, ResidualBlock)}
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                gain = 0.0 if layer in last else 1.0 if layer is self.head else 2.0
                std = (gain / layer.weight[0].numel()) ** 0.5
                with torch.no_grad():
                    layer.weight.copy_(normal(layer.weight.shape) * std)
                    if layer.bias is not None:
                        layer.bias.zero_()


class ResidualBlock(nn.Module):
    """x + conv(relu(norm(conv(relu(norm(x))))))."""

    def __init__(self, width: int, device: torch.device) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.BatchNorm2d(width, device=device) for _ in range(2))
        self.first, self.second = (convolution(width, width, device) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(F.relu(self.norm2(self.first(F.relu(self.norm1(x))))))
        return x + y


def convolution(inner: int, outer: int, device: torch.device, stride: int = 1) -> nn.Conv2d:
    """3x3, padded by 1, its weights unset: torch's own would come from the global generator."""
    layer = nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False, device="meta")
    return layer.to_empty(device=device)


class Surrogate:
    """A network, its optimiser, and its own draws: those of its first weights and of its batches.

    Args:
        width, depth: channels, and residual blocks.
        learning_rate: of SGD with momentum, at the beginning of each training.
        seed: of the draws; another surrogate has another.
    """

    def __init__(self, games: Games, *, width: int, depth: int, learning_rate: float, seed: int) -> None:
        device = games.x0.device
        self.rate, self.seed, self.turn = learning_rate, seed, 0
        self.row = torch.zeros(1, dtype=torch.int64, device=device)
        self.scale: float | None = None
        self.network = ResidualNet(tuple(games.x0.shape[1:]), games.classes, width, depth, device)
        self.network.initialise(lambda shape: draws.normal(self.seed, self.row, self._next(), shape)[0])
        self.optimiser = torch.optim.SGD(
            self.network.parameters(), lr=learning_rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
        )

    def train(self, pairs: Pairs, batches: int, batch: int) -> None:
        """Lower the mean squared error on so many batches of pairs, drawn with replacement.

        The learning rate falls along a cosine to 0. The network learns logits in units of the deviation of
        those that its first training saw. A batch whose gradient is not finite changes nothing.
        """
        if self.scale is None:
            self.scale = pairs.deviation()
        rows = draws.integers(len(pairs), self.seed, self.row, self._next(), (batches, batch))[0]
        weights = list(self.network.parameters())
        self.network.train()
        for step, chosen in enumerate(rows):
            for group in self.optimiser.param_groups:
                group["lr"] = self.rate * (1 + math.cos(math.pi * step / batches)) / 2
            self.optimiser.zero_grad()
            error = F.mse_loss(self.network(pairs.x[chosen]), pairs.z[chosen] / self.scale)
            torch.autograd.backward(error)
            if clip_grad_norm_(weights, LONGEST_GRADIENT).isfinite():
                self.optimiser.step()
        self.network.eval()

    def logits(self, x: Tensor) -> Tensor:
        """[n,K] of images `x` [n,C,H,W]."""
        with torch.no_grad():
            return torch.cat([self._logits(piece) for piece in torch.split(x, ROWS)])

    def gradient(self, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The gradient [n,C,H,W] at `x` of `loss(logits [n,K], y [n])` [n], that of each image divided by its
        largest value, which may be too small to be squared; 0 where it is 0 or not finite."""
        found: list[Tensor] = []
        for piece, of in zip(torch.split(x, ROWS), torch.split(y, ROWS), strict=True):
            at = piece.detach().requires_grad_()
            found += torch.autograd.grad(loss(self._logits(at), of).sum(), at)
        gradient = torch.cat(found)
        largest = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
        return (gradient / largest).nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)

    def _logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x) * (self.scale or 1.0)
        return logits

    def _next(self) -> int:
        self.turn += 1
        return self.turn
