"""Images in files, read when needed."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from arena.datasets.dataset import DatasetError
from arena.inputs.places import ODD, kind_of

MOST_PIXELS = 89_000_000
"""The most pixels of an image file; decoding a larger one could fill the memory."""
WORKERS = min(8, os.cpu_count() or 1)
HASHED = 4096
"""Files that are hashed at a time."""

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that a file may have, whatever its name. Pillow knows others; one of them, EPS, runs a program."""

_TRANSPARENT = {"LA", "La", "PA", "RGBA", "RGBa"}
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, TypeError, IndexError, struct.error, zlib.error)
"""What Pillow raises for files that are cut short or are no images."""


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files as uint8 [N,3,size,size], decoded by a few threads each time they are needed.

    Decoded images are not kept. An image of exactly `size` x `size` pixels is taken as it is; of any other,
    the shorter side is brought to round(size * 256 / 224) pixels (bilinear, antialiased) and the centre cut
    out, as networks trained on ImageNet are evaluated. Grey, palette, CMYK and 16-bit images become 8-bit
    RGB, transparent pixels are laid over white, and photographs are turned as their EXIF orientation says.

    Attributes:
        folder: where the files lie.
        names: [N], the files within it.
        size: height and width in pixels.
    """

    folder: Path
    names: Sequence[str]
    size: int

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.names), 3, self.size, self.size))

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8

    def __getitem__(self, index: Tensor, /) -> Tensor:
        """The images [n,3,size,size] of these numbers [n]; DatasetError names a file that cannot be read."""
        numbers = index.tolist()

        def read(place: int) -> NDArray[np.uint8]:
            return read_image(self.folder / self.names[numbers[place]], self.size)

        return read_together(read, len(numbers), self.size)

    def only(self, numbers: Tensor, /) -> ImageFiles:
        """The files of these numbers [n], numbered anew from 0."""
        return ImageFiles(self.folder, [self.names[number] for number in numbers.tolist()], self.size)

    def contents(self) -> Iterator[bytes]:
        """How the files are read, then the SHA-256 of each."""
        yield f"RGB, shorter side {_shorter(self.size)} (bilinear), centre {self.size}\n".encode()
        with ThreadPoolExecutor(WORKERS) as pool:
            for first in range(0, len(self.names), HASHED):
                names = self.names[first : first + HASHED]
                yield from pool.map(_digest, [self.folder / name for name in names])


def read_together(read: Callable[[int], NDArray[np.uint8]], n: int, size: int) -> Tensor:
    """uint8 [n,3,size,size], image i of which is `read(i)` [3,size,size], by a few threads at a time."""
    images = torch.empty(n, 3, size, size, dtype=torch.uint8)
    pixels = images.numpy()

    def fill(place: int) -> None:
        pixels[place] = read(place)

    with ThreadPoolExecutor(WORKERS) as pool:
        for _ in pool.map(fill, range(n)):
            pass
    return images


def check_kind(path: Path) -> None:
    """DatasetError if what lies at `path` is a pipe or the like: opening it would wait for ever."""
    if kind_of(path) == "other":
        raise DatasetError(f"{path} {ODD}")


def read_image(path: Path, size: int) -> NDArray[np.uint8]:
    """The image [3,size,size] in a file, decoded as `ImageFiles` describes; DatasetError if there is none."""
    check_kind(path)
    too_large = f"{path}: claims more than {MOST_PIXELS:,} pixels, too many to be decoded safely"
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise DatasetError(too_large)
            image.load()
            return np.asarray(_cut(_rgb(_upright(image), path), size, path)).transpose(2, 0, 1)
    except DatasetError:
        raise
    except Image.DecompressionBombError as error:
        raise DatasetError(too_large) from error
    except UnidentifiedImageError as error:
        what = f"holds none of {', '.join(FORMATS)}" if path.stat().st_size else "is empty"
        raise DatasetError(f"{path}: {what}") from error
    except _BROKEN as error:
        raise DatasetError(f"{path}: cannot be read as an image: {_reason(error)}") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except _BROKEN:  # broken EXIF data beside good pixels
        return image


def _rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.float64).clip(0, 65535)
        return Image.fromarray((levels / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise DatasetError(f"{path}: its pixels are floats of no known range; allowed are 8 or 16 bits")
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


def _cut(image: Image.Image, size: int, path: Path) -> Image.Image:
    if image.size == (size, size):
        return image
    short = _shorter(size)
    width, height = (short * side // min(image.size) for side in image.size)
    if width * height > MOST_PIXELS:
        raise DatasetError(
            f"{path}: {image.width} x {image.height} pixels are too long for a centre of {size}"
        )
    left, top = round((width - size) / 2), round((height - size) / 2)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + size, top + size))


def _shorter(size: int) -> int:
    return round(size * 256 / 224)


def _digest(path: Path) -> bytes:
    check_kind(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
