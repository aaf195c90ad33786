"""A user's own images in an `.npz` file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arena.datasets.dataset import MOST_CLASSES, Dataset, DatasetError
from arena.datasets.order import from_one, from_two
from arena.datasets.source import Layout, Source
from arena.inputs.machine import memory
from arena.messages import first_line


def npz(path: Path, layout: Layout | None = None) -> Dataset:
    """Images and labels from an `.npz` file, named after the file.

    It holds `x` and `y`, cut into four splits here, or `train_x`, `train_y`, `test_x` and `test_y`, of which
    a tenth of the test images is for calibration and games are played on the others. Images are uint8, or
    float in [0,1]: [n,H,W] grey, [n,C,H,W] or [n,H,W,C]. Without `layout` the axis with 1 or 3 entries is
    taken for the channels; it is needed if both axes could be, or neither. Labels are whole numbers from 0,
    [n].

    Raises DatasetError for anything else; objects are never unpickled.
    """
    arrays = _read(path)
    pairs = [("train_x", "train_y"), ("test_x", "test_y")]
    if not {key for pair in pairs for key in pair} <= arrays.keys():
        pairs = [("x", "y")]
    if not {key for pair in pairs for key in pair} <= arrays.keys():
        raise DatasetError(
            f"{path}: found the keys {', '.join(arrays) or 'of nothing'}; allowed are x and y, or train_x, "
            f"train_y, test_x and test_y"
        )
    images = [_images(arrays[x], f"{path}: {x}", layout) for x, _ in pairs]
    labels = [_labels(arrays[y], len(arrays[x]), f"{path}: {y}") for x, y in pairs]
    if images[0].shape[1:] != images[-1].shape[1:] or images[0].dtype != images[-1].dtype:
        kinds = " and ".join(f"{part.dtype} {list(part.shape)}" for part in images)
        raise DatasetError(f"{path}: training and test images must be of one shape and type, not {kinds}")
    index = from_one(*labels) if len(labels) == 1 else from_two(*labels)
    return Dataset.cut(path.stem, torch.cat(images), torch.cat(labels), index)


def _read(path: Path) -> dict[str, NDArray[np.generic]]:
    if not zipfile.is_zipfile(path):
        raise DatasetError(f"{path}: is no .npz file, or cut short")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_room(path, sum(member.file_size for member in archive.infolist()))
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except DatasetError:
        raise
    except Exception as error:  # an untrusted file: any exception may come
        reason = first_line(error)
        raise DatasetError(f"{path}: cannot be read as an .npz file of plain arrays: {reason}") from error


def _check_room(path: Path, size: int) -> None:
    """DatasetError if arrays of `size` bytes cannot be held."""
    if (room := memory()) is not None and size > room:
        raise DatasetError(
            f"{path}: holds arrays of {size / 2**30:,.1f} GiB, more than this machine's memory of "
            f"{room / 2**30:,.1f} GiB"
        )


def _images(x: NDArray[np.generic], where: str, layout: Layout | None) -> Tensor:
    if x.ndim not in (3, 4) or 0 in x.shape:
        raise DatasetError(f"{where}: images must be [n,H,W], [n,C,H,W] or [n,H,W,C], not {list(x.shape)}")
    if x.ndim == 3:
        x = x[:, None]
    elif (layout or _layout(x.shape, where)) == "nhwc":
        x = x.transpose(0, 3, 1, 2)
    if x.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(x))
    if not np.issubdtype(x.dtype, np.floating):
        raise DatasetError(f"{where}: images must be uint8, or float in [0,1], not {x.dtype}")
    if not (x.min() >= 0 and x.max() <= 1):  # NaN fails too
        raise DatasetError(f"{where}: float images must lie in [0,1], not in [{x.min()}, {x.max()}]")
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))


def _layout(shape: tuple[int, ...], where: str) -> Layout:
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first == last:
        raise DatasetError(
            f'{where}: {list(shape)} could be [n,C,H,W] as well as [n,H,W,C]; say layout = "nchw" or "nhwc"'
        )
    return "nchw" if first else "nhwc"


def _labels(y: NDArray[np.generic], n: int, where: str) -> Tensor:
    if y.shape != (n,) or not np.issubdtype(y.dtype, np.integer):
        raise DatasetError(f"{where}: labels must be whole numbers [{n}], not {y.dtype} {list(y.shape)}")
    labels = torch.from_numpy(y.astype(np.int64))
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MOST_CLASSES:
        found = low if low < 0 else high
        raise DatasetError(f"{where}: labels must be from 0 to {MOST_CLASSES - 1:,}, not {found}")
    return labels


SOURCE = Source(
    read=lambda path, spec: npz(path, spec.layout),
    places=(),
    advice="the .npz file, with keys x and y, or train_x, train_y, test_x and test_y",
    keys=("path", "layout"),
)
