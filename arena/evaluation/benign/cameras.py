"""Clients whose images are views of one scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from arena import draws
from arena.evaluation.benign.client import Client, Sending


@dataclass(frozen=True)
class Video(Client):
    """A camera held by hand: shift, zoom and brightness drift from frame to frame, each by a normal step. The
    first frame is the image itself.

    Attributes:
        shift: standard deviation of a step, in parts of the image's width; zoom: of the logarithm of the
            scale, which only crops; brightness: in pixel units of [0,1].
    """

    name: ClassVar[str] = "video"
    does: ClassVar[str] = "30 frames of a camera held by hand: small shifts, crops, brightness"
    queries: ClassVar[int] = 30
    shift: float = 0.01
    zoom: float = 0.01
    brightness: float = 0.01

    def send(self, x: Tensor, key: Tensor, seed: int) -> Sending:
        state = torch.zeros(len(x), 4, device=x.device)
        frame, turn = x, 0
        while True:
            yield frame
            turn += 1
            state = state + draws.normal(seed, key, turn, (4,))
            crop = (-(state[:, 2] * self.zoom).abs()).exp()
            viewed = view(x, crop, state[:, :2] * self.shift)
            frame = (viewed + self.brightness * state[:, 3].view(-1, 1, 1, 1)).clamp(0, 1)


@dataclass(frozen=True)
class Augmentation(Client):
    """Averages predictions over ten crops, as Krizhevsky et al. (2012, sec. 4.1) do: the four corners and the
    centre, each of 7/8 of the width and at full size again, and their mirror images."""

    name: ClassVar[str] = "augmentation"
    does: ClassVar[str] = "ten crops of an image, to average their predictions"
    queries: ClassVar[int] = 10
    crop: float = 7 / 8

    def send(self, x: Tensor, key: Tensor, seed: int) -> Sending:
        size, far = x.new_full((len(x),), self.crop), 1 - self.crop
        while True:
            for across, down in ((0, 0), (-far, -far), (far, -far), (-far, far), (far, far)):
                crop = view(x, size, x.new_tensor([across, down]).expand(len(x), 2) / 2)
                yield crop
                yield crop.flip(3)


def view(x: Tensor, size: Tensor, shift: Tensor) -> Tensor:
    """What a camera sees of images `x` [s,C,H,W]: of each a part `size` [s] as wide and high, whose centre is
    shifted by `shift` [s,2] (across, down) in parts of the width and height, bilinear, at full size; outside
    the image its border goes on."""
    theta = x.new_zeros(len(x), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = size
    theta[:, :, 2] = 2 * shift  # the grid spans [-1, 1]
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False).clamp(0, 1)
