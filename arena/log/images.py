"""Final images as the log keeps them: float32, little-endian, in C order, zlib-compressed.

Level 1 shrinks perturbed 8-bit images and those of sign-valued attacks to 0.4 of their size, and Gaussian
perturbations to 0.87; higher levels and byte shuffling gain nothing on these.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
from numpy.typing import NDArray

from arena.log.errors import LogError


def pack(images: NDArray[np.float32]) -> list[bytes]:
    """One value of `games.final` for each of the images [G,C,H,W]."""
    return [zlib.compress(image.astype("<f4").tobytes(), 1) for image in images]


def unpack(final: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The image that a value of `games.final` holds.

    Args:
        shape: (C, H, W), as in `matches.image_shape`.

    Raises:
        LogError: if the value is not an image of that shape.
    """
    size = 4 * math.prod(shape)
    try:
        # A few bytes of a stranger's log may unpack to gigabytes.
        content = zlib.decompressobj().decompress(final, size + 1)
        return np.frombuffer(content, dtype="<f4").reshape(shape).astype(np.float32)
    except (zlib.error, ValueError, TypeError) as error:
        raise LogError(f"a final image of shape {shape} was expected in the log; found {error}") from error
