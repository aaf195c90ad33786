"""Data sets by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from arena.datasets.cifar10 import SOURCE as CIFAR10
from arena.datasets.dataset import Dataset, DatasetError
from arena.datasets.digits import digits
from arena.datasets.download import DOWNLOADS
from arena.datasets.folders import find
from arena.datasets.gtsrb import SOURCE as GTSRB
from arena.datasets.idx import FASHION_MNIST, MNIST
from arena.datasets.imagenet import SOURCE as IMAGENET
from arena.datasets.npz import SOURCE as NPZ
from arena.datasets.source import DatasetSpec, Source
from arena.messages import near

SOURCES: dict[str, Source] = {
    "cifar10": CIFAR10,
    "fashion-mnist": FASHION_MNIST,
    "gtsrb": GTSRB,
    "imagenet": IMAGENET,
    "mnist": MNIST,
    "npz": NPZ,
}
DATASETS = ("digits", *SOURCES)


def load_dataset(spec: DatasetSpec | str, data_dirs: Iterable[Path] = ()) -> Dataset:
    """Read a data set; `data_dirs` (a scenario's folder, `--data`) come first in the search path.

    Raises DatasetError for an unknown name, a key the data set does not know, unusable content or content
    other than the pinned one (`spec.sha`), and FileNotFoundError, which names the places searched and what to
    put there.
    """
    spec = DatasetSpec(name=spec) if isinstance(spec, str) else spec
    if spec.name not in DATASETS:
        raise DatasetError(f'there is no data set "{spec.name}"; {near(spec.name, DATASETS)}')
    source = SOURCES.get(spec.name)
    keys = ("sha", *(source.keys if source else ()))
    given = [key for key in DatasetSpec.model_fields if key != "name" and getattr(spec, key) is not None]
    if unknown := [key for key in given if key not in keys]:
        raise DatasetError(f'data set "{spec.name}" has no key "{unknown[0]}"; {near(unknown[0], keys)}')
    if source is None:
        return _pinned(digits(), spec)
    places = source.places if spec.path is None else (spec.path,)
    if not places:
        raise DatasetError(f'data set "{spec.name}" needs a path: {source.advice}')
    advice = source.advice + (f"; arena data get {spec.name} fetches it" if spec.name in DOWNLOADS else "")
    return _pinned(source.read(find(f'data set "{spec.name}"', places, data_dirs, advice), spec), spec)


def _pinned(dataset: Dataset, spec: DatasetSpec) -> Dataset:
    if spec.sha and not dataset.sha.startswith(spec.sha):
        raise DatasetError(
            f'data set "{spec.name}": found SHA-256 {dataset.sha[: len(spec.sha)]}, wanted {spec.sha}; other '
            f"images, labels or splits lie here than those that were meant"
        )
    return dataset
