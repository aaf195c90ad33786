"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017) from their official idx files."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from arena.datasets.dataset import Dataset, DatasetError
from arena.datasets.order import from_two
from arena.datasets.source import Source

SIDE = 28
IMAGES, LABELS = 3, 1  # dimensions, the last byte of the magic number
MOST = {"train": 60_000, "t10k": 10_000}
DIGITS = tuple("0123456789")
GARMENTS = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def idx(folder: Path, name: str, class_names: tuple[str, ...]) -> Dataset:
    """A data set as uint8 [N,1,28,28] from `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`,
    `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte` in a folder, packed (`.gz`) or not.

    `train-images.idx3-ubyte` and the like are known too; the first bytes of a file show whether it is packed.
    Training images come first in the numbering; a tenth of the test images is for calibration, games are
    played on the others.

    Raises FileNotFoundError for a missing file, and DatasetError for one that is cut short, damaged (its
    length or the packed file's checksum does not fit) or of another data set.
    """
    images, labels = [], []
    for part, most in MOST.items():
        pictures, classes = _find(folder, part, IMAGES, name), _find(folder, part, LABELS, name)
        x, y = _read(pictures, (SIDE, SIDE), most), _read(classes, (), most)
        if len(x) != len(y):
            raise DatasetError(
                f"{classes}: {len(y):,} labels, but {pictures.name} beside it has {len(x):,} images"
            )
        if (top := int(y.max())) >= len(class_names):
            raise DatasetError(f"{classes}: found label {top}; allowed are 0 to {len(class_names) - 1}")
        images.append(x.unsqueeze(1))
        labels.append(y.long())
    return Dataset.cut(name, torch.cat(images), torch.cat(labels), from_two(*labels), class_names)


def _find(folder: Path, part: str, dimensions: int, name: str) -> Path:
    what = "images" if dimensions == IMAGES else "labels"
    stems = [f"{part}-{what}{sign}idx{dimensions}-ubyte" for sign in "-."]
    for path in (folder / f"{stem}{end}" for end in ("", ".gz") for stem in stems):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f'data set "{name}": no {stems[0]} or {stems[0]}.gz in {folder}; put the four official files there'
    )


def _read(path: Path, row: tuple[int, ...], most: int) -> Tensor:
    """The uint8 array [n,*row] that an idx file of 1 to `most` rows holds."""
    with path.open("rb") as plain:
        packed = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        try:
            if packed:
                with gzip.GzipFile(fileobj=plain) as unpacked:
                    return _array(unpacked, path, row, most)
            return _array(plain, path, row, most)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DatasetError(f"{path}: the packed file is cut short or damaged: {error}") from error


def _array(file: IO[bytes] | gzip.GzipFile, path: Path, row: tuple[int, ...], most: int) -> Tensor:
    magic = bytes((0, 0, 8, 1 + len(row)))
    start, sizes = file.read(4), file.read(4 * magic[3])
    if start != magic or len(sizes) < 4 * magic[3]:
        found = "nothing" if not start else "no more" if start == magic else start.hex(" ")
        raise DatasetError(
            f"{path}: is no idx file of {'images' if row else 'labels'}: it must begin with {magic.hex(' ')} "
            f"and {magic[3]} sizes, but holds {found}"
        )
    n, *shape = struct.unpack(f">{magic[3]}I", sizes)
    if tuple(shape) != row or not 1 <= n <= most:
        allowed = " x ".join((f"1 to {most:,}", *map(str, row)))
        raise DatasetError(
            f"{path}: says it holds {' x '.join(map(str, (n, *shape)))}; allowed are {allowed}"
        )
    length = math.prod((n, *row))
    content = bytearray(file.read(length + 1))  # one byte more reaches the packed file's checksum
    if len(content) != length:
        but = "more" if len(content) > length else f"{len(content):,}"
        raise DatasetError(f"{path}: must hold {length:,} bytes behind its head, but holds {but}")
    return torch.frombuffer(content, dtype=torch.uint8).view(n, *row)


def _source(name: str, class_names: tuple[str, ...], places: tuple[str, ...]) -> Source:
    return Source(
        read=lambda path, spec: idx(path, name, class_names),
        places=places,
        advice=(
            f"put there a folder {places[0]} with the four official files, train-images-idx3-ubyte, "
            f"train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, packed (.gz) or "
            f"not, or name another place (--data, ARENA_DATA, path)"
        ),
    )


MNIST = _source("mnist", DIGITS, ("mnist", "MNIST/raw", "MNIST"))
FASHION_MNIST = _source("fashion-mnist", GARMENTS, ("fashion-mnist", "FashionMNIST/raw", "FashionMNIST"))
