"""Blacklight: queries that share most of a probabilistic fingerprint with an earlier one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from agents.defenders.stateful.fingerprints import FingerprintIndex, Windows, fingerprints, windows
from agents.defenders.stateful.history import Stateful
from arena.players.card import Card

ROUGHLY = 6000
"""From twice as many values on, windows are `w` 50 and as far apart as gives about so many of them."""


@dataclass(frozen=True)
class Blacklight(Stateful):
    """Blacklight (Li, Shan, Wenger, Zhang, Zheng and Zhao, "Blacklight: Scalable Defense for Neural Networks
    against Query-Based Black-Box Attacks", USENIX Security 2022).

        a = (255 x + salt) mod 255, flattened (C, H, W), rounded to multiples of q
        H = {hash(a[i], ..., a[i + w - 1]) : i = 0, p, 2 p, ...}
        the fingerprint is the s largest of H in an order that the hash gives
        a query is an alarm if it shares at least t hashes with a remembered one

    The paper hashes each window by SHA-256. Here a window's hash is sum_j r_j a_j / q modulo 2^64 with a
    secret random weight r_j for each of its places, then mixed by a fixed bijection, after which the order
    looks random: all windows of a batch are hashed at once. Two windows that differ get the same hash with
    probability at most 2^-57 over r (with d their difference at one place, r_j d = c has 2^k solutions r_j
    where d = 2^k odd, and d is below 256). What SHA-256 hides from somebody who reads the stored hashes need
    not be hidden here: they stay in the process.

    Images of so few values L = C H W that they have less than s windows get shorter fingerprints, of which
    the same share t / s has to agree.

    Attributes:
        history, action, capacity: as for all defenders with a history. A remembered query takes 16 bytes for
            each of its `s` hashes, up to twice that in all, and 4 for each class: 160 MB for 10^5.
        w: values in a window. None: 20 for colour images of less than 12000 values (the paper's for 32 x 32);
            else 50: its for larger images, and for grey ones such as MNIST's, whose blank areas are longer
            than 20 (with 20 every fourth clean image of MNIST is an alarm, with 50 none). At most L / 8: 8
            for 8 x 8, where a changed pixel spoils w of the 65 - w windows.
        p: values from one window to the next. None: 1, or L / 6000 from 12000 values on (25 for
            3 x 224 x 224, as in the published code).
        q: levels, of 255, in a step of quantisation.
        s: hashes in a fingerprint.
        t: hashes, of s, that have to be shared.
        salted: add a secret image, modulo 255, first. Without it windows of blank areas are all alike, so
            that an image of one colour has one hash, fewer than t, and passes even when it is sent again.
        seed: of the salt and of the weights r.
    """

    w: int | None = None
    p: int | None = None
    q: int = 50
    s: int = 50
    t: int = 25
    salted: bool = True
    seed: int = 0

    card: ClassVar[Card | None] = Card(
        alters=("service",),
        paper='Li, Shan, Wenger, Zhang, Zheng and Zhao, "Blacklight: Scalable Defense for Neural Networks '
        'against Query-Based Black-Box Attacks", USENIX Security 2022',
        claims="detects each of eight black-box attacks within a few queries, and refuses what follows",
        broken_by=("oars-square", "surfree", "oars-hop-skip-jump"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, most in (("w", math.inf), ("p", math.inf), ("q", 255), ("s", 10_000)):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                allowed = "at least 1" if most == math.inf else f"from 1 to {most}"
                raise ValueError(f"{name} must be {allowed}; found {value}")
        if not 1 <= self.t <= self.s:
            raise ValueError(f"t must be from 1 to s {self.s}; found {self.t}")

    def windows(self, shape: tuple[int, ...]) -> Windows:
        """How images of `shape` [C,H,W] are cut."""
        length = math.prod(shape)
        large = length >= 2 * ROUGHLY
        w = self.w or min(50 if large or shape[0] == 1 else 20, max(1, length // 8))
        p = self.p or (length // ROUGHLY if large else 1)
        return windows(length, w, p, self.q, self.s, self.seed, self.salted)

    def unsuited(self, shape: tuple[int, ...]) -> str | None:
        cut = self.windows(shape)
        if cut.count < 1:
            room = f"w {cut.w} and p {cut.p} do not fit into an image of {math.prod(shape)} values"
            return f"blacklight cuts windows of w values every p values; {room}"
        return None

    def threshold(self, shape: tuple[int, ...]) -> int:
        """How many hashes have to be shared, of images of `shape` [C,H,W]."""
        return math.ceil(self.t * min(self.s, self.windows(shape).count) / self.s)

    def features(self, x: Tensor) -> Tensor:
        return fingerprints(x, self.windows(tuple(x.shape[1:])))

    def index(self, shape: tuple[int, ...]) -> FingerprintIndex:
        return FingerprintIndex(self.capacity, self.threshold(shape))
