"""Data sets by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from arena.datasets.cifar10 import FOLDER, cifar10
from arena.datasets.dataset import Dataset, DatasetError
from arena.datasets.digits import digits
from arena.datasets.folders import find
from arena.datasets.npz import Layout, npz
from arena.wording import near


class DatasetSpec(BaseModel):
    """Which data set, and where it lies.

    Attributes:
        name: one of `DATASETS`.
        path: the file or folder, absolute or within the search path; needed by `npz`, unknown to `digits`.
        layout: the axes of an `npz`'s images, where its shape does not tell.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    path: str | None = None
    layout: Layout | None = None


def load_dataset(spec: DatasetSpec | str, data_dirs: Iterable[Path] = ()) -> Dataset:
    """Read a data set; `data_dirs` (a scenario's folder, `--data`) come first in the search path.

    Raises DatasetError for an unknown name, a key the data set does not know or unusable content, and
    FileNotFoundError, which says where it looked and what to put there.
    """
    spec = DatasetSpec(name=spec) if isinstance(spec, str) else spec
    if spec.name not in DATASETS:
        raise DatasetError(f'there is no data set "{spec.name}"; {near(spec.name, DATASETS)}')
    keys, load = DATASETS[spec.name]
    if unknown := [key for key in ("path", "layout") if getattr(spec, key) is not None and key not in keys]:
        raise DatasetError(f'data set "{spec.name}" has no key "{unknown[0]}"; {near(unknown[0], keys)}')
    return load(spec, data_dirs)


def _digits(spec: DatasetSpec, folders: Iterable[Path]) -> Dataset:
    return digits()


def _cifar10(spec: DatasetSpec, folders: Iterable[Path]) -> Dataset:
    advice = (
        f"put the folder {FOLDER} of the official binary version there, with test_batch.bin and any of "
        f"data_batch_1.bin to data_batch_5.bin, or name another place (--data, ARENA_DATA, path)"
    )
    return cifar10(find('data set "cifar10"', [spec.path or FOLDER], folders, advice))


def _npz(spec: DatasetSpec, folders: Iterable[Path]) -> Dataset:
    if spec.path is None:
        raise DatasetError('data set "npz" needs a path: the .npz file with keys x and y')
    advice = "put the file there, or give its whole path"
    return npz(find('data set "npz"', [spec.path], folders, advice), spec.layout)


DATASETS: dict[str, tuple[tuple[str, ...], Callable[[DatasetSpec, Iterable[Path]], Dataset]]] = {
    "digits": ((), _digits),
    "cifar10": (("path",), _cifar10),
    "npz": (("path", "layout"), _npz),
}
