"""PIHA's perceptual hash: local binary patterns of the hue of blocks."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad


def hue_codes(x: Tensor, block: int) -> Tensor:
    """[n,cells] uint8: a code for each block of `block` x `block` pixels of images `x` [n,3,H,W].

    The image is blurred, its hue summed within blocks, zero beyond the image (a whole row and column of
    blocks where its sides are multiples of `block`), and each block compared with its eight neighbours.
    """
    height, width = x.shape[2:]
    hues = pad(hue(blurred(x.double())), (0, block - width % block, 0, block - height % block))
    sums = avg_pool2d(hues.unsqueeze(1), block, divisor_override=1).squeeze(1)
    return local_binary_patterns(sums).flatten(1)


def blurred(x: Tensor) -> Tensor:
    """By a Gaussian of standard deviation 1 over 3 x 3 pixels; at the sides the image is mirrored."""
    side = math.exp(-0.5)
    row = torch.tensor([side, 1, side], dtype=x.dtype, device=x.device) / (1 + 2 * side)
    kernel = (row[:, None] * row).expand(x.shape[1], 1, 3, 3)
    return conv2d(pad(x, (1, 1, 1, 1), mode="reflect"), kernel, groups=x.shape[1])


def hue(x: Tensor) -> Tensor:
    """[n,H,W] the hue of colours `x` [n,3,H,W] in degrees from 0 to 360; 0 for grey."""
    red, green, blue = x.unbind(1)
    most, least = x.amax(dim=1), x.amin(dim=1)
    span = torch.where(most > least, most - least, 1.0)
    sector = torch.where(
        most == red,
        (green - blue) / span,
        torch.where(most == green, 2 + (blue - red) / span, 4 + (red - green) / span),
    )
    return torch.where(most > least, (60 * sector).remainder(360), 0.0)


def local_binary_patterns(z: Tensor) -> Tensor:
    """[n,H,W] uint8 of `z` [n,H,W]: bit k says whether the point at the angle of k/8 of a turn, at distance
    1, is not below the middle; diagonal points are interpolated between pixels, beyond the sides lies 0."""
    height, width = z.shape[1:]
    around = pad(z, (1, 1, 1, 1))
    codes = torch.zeros_like(z, dtype=torch.uint8)
    for k in range(8):
        down = round(-math.sin(2 * math.pi * k / 8), 5)
        right = round(math.cos(2 * math.pi * k / 8), 5)
        top, left = math.floor(down), math.floor(right)
        below, beside = down - top, right - left
        sample = torch.zeros_like(z)
        for y, of_row in ((top, 1 - below), (top + 1, below)):
            for x, of_column in ((left, 1 - beside), (left + 1, beside)):
                if of_row * of_column:
                    shifted = around[:, 1 + y : 1 + y + height, 1 + x : 1 + x + width]
                    sample += of_row * of_column * shifted
        codes |= (sample >= z).to(torch.uint8) << k
    return codes
