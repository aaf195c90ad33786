"""The similarity encoder of Stateful Detection, and how it is trained."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample, max_pool2d, relu

from arena import draws
from arena.players import tell

SMALLEST = 4
"""The least height and width of an image: two poolings halve it."""
_UNPADDED = 10
"""From this height and width on the second convolution of each pair needs no margin."""
MARGIN = 10.0
"""m^2."""
BATCH, LR = 64, 1e-3


class Encoder(nn.Module):
    """Images [n,C,H,W] -> points [n,256]: two pairs of convolutions of 32 and 64 channels, each pair pooled
    by 2, then 512 and 256 units (Chen, Carlini and Wagner; their code for 3 x 32 x 32).

    The second convolution of a pair has no margin, but where an image is too small for that. Dropout (.25
    after each pair, .5 before the last layer) is in force where the generator `dropped` is given; the same
    units are dropped for all images, so that distances between them are those of one thinned network.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, height, width = shape
        margin = 0 if min(height, width) >= _UNPADDED else 1
        with torch.random.fork_rng(devices=[]):
            sizes = ((channels, 32, 1), (32, 32, margin), (32, 64, 1), (64, 64, margin))
            self.convolutions = nn.ModuleList(nn.Conv2d(n, m, 3, padding=p) for n, m, p in sizes)
            sides = [((side - 2 + 2 * margin) // 2 - 2 + 2 * margin) // 2 for side in (height, width)]
            self.hidden, self.last = nn.Linear(64 * sides[0] * sides[1], 512), nn.Linear(512, 256)

    def draw_weights(self, seed: int) -> None:
        """Uniform weights of variance 2 / inputs (He et al., 2015), by keyed draws; biases 0."""
        with torch.no_grad():
            for number, weight in enumerate(p for p in self.parameters() if p.ndim > 1):
                place = torch.arange(len(weight))
                drawn = draws.uniform(draws.derive(seed, "weights", number), place, 0, weight.shape[1:])
                weight.copy_((2 * drawn - 1) * math.sqrt(6 / weight[0].numel()))
            for bias in (p for p in self.parameters() if p.ndim == 1):
                bias.zero_()

    def forward(self, x: Tensor, dropped: torch.Generator | None = None) -> Tensor:
        for pair in (0, 2):
            x = relu(self.convolutions[pair](x))
            x = max_pool2d(relu(self.convolutions[pair + 1](x)), 2)
            x = _drop(x, 0.25, dropped)
        hidden = _drop(relu(self.hidden(x.flatten(1))), 0.5, dropped)
        points: Tensor = self.last(hidden)
        return points


def _drop(x: Tensor, share: float, dropped: torch.Generator | None) -> Tensor:
    if dropped is None:
        return x
    # With units of its own dropped for each image, two points lie apart by that noise, most of it larger than
    # what tells images apart: pushing is content with it, and pulling shrinks all points to one.
    kept = torch.rand(x.shape[1:], generator=dropped) >= share
    return x * kept.to(x.device) / (1 - share)


def train_encoder(images: Tensor, epochs: int, seed: int) -> Encoder:
    """An encoder for `images` [n,C,H,W], trained on them, on their device.

    Contrastive: points of an image and of a changed copy (turned by up to 10 degrees, moved by up to a tenth,
    scaled by up to a tenth, lighter or darker by up to a tenth) are pulled together, |a - b|^2; those of two
    images are pushed apart up to a margin of m = sqrt(10), max(0, m^2 - |a - b|^2) (Bell and Bala, SIGGRAPH
    2015). The authors train likewise; which changes they take is not in their code.
    """
    encoder = Encoder(tuple(images.shape[1:])).to(images.device)
    encoder.draw_weights(seed)
    generator = torch.Generator().manual_seed(seed % 2**63)
    optimiser = torch.optim.Adam(encoder.parameters(), lr=LR)
    for epoch in range(epochs):
        tell("training the encoder", epoch, epochs)
        for rows in _batches(len(images), generator):
            x = images[rows.to(images.device)]
            a, b = encoder(torch.cat([x, changed(x, generator)]), generator).chunk(2)
            loss = contrast(a, b).mean()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
    return encoder.eval().requires_grad_(False)


def contrast(a: Tensor, b: Tensor) -> Tensor:
    """[n] the loss of points `a` [n,256] of images and `b` of their changed copies: each is pulled to its own
    copy and pushed away from the image before."""
    apart = (a - a.roll(1, 0)).square().sum(dim=1)
    return (a - b).square().sum(dim=1) + (MARGIN - apart).clamp_min(0)


def _batches(n: int, generator: torch.Generator) -> Iterator[Tensor]:
    order = torch.randperm(n, generator=generator)
    for begin in range(0, n - 1, BATCH):  # a batch of one has no other image
        rows = order[begin : begin + BATCH]
        if len(rows) > 1:
            yield rows


def changed(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each of `x` [n,C,H,W] turned, moved, scaled, lighter or darker; what comes in at the sides repeats."""
    drawn = (2 * torch.rand(len(x), 5, generator=generator) - 1).to(x.device)
    angle = drawn[:, 0] * math.radians(10)
    scale = 1 + 0.1 * drawn[:, 1]
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    across = torch.stack([cosine, -sine, 0.2 * drawn[:, 2]], dim=1)  # the image is 2 wide and high
    down = torch.stack([sine, cosine, 0.2 * drawn[:, 3]], dim=1)
    grid = affine_grid(torch.stack([across, down], dim=1), list(x.shape), align_corners=False)
    moved = grid_sample(x, grid, padding_mode="border", align_corners=False)
    return (moved + 0.1 * drawn[:, 4, None, None, None]).clamp(0, 1)
