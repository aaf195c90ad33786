"""CIFAR-10's official Python version: pickles, loaded only if they are bit for bit the official files."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arena.datasets.dataset import DatasetError

OFFICIAL_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
"""MD5 of the files in cifar-10-python.tar.gz, as in torchvision. Two files with the same MD5 can be made on
purpose, but not a second file with the MD5 of an existing one."""


def read_batch(path: Path) -> tuple[NDArray[np.uint8], list[int]]:
    """Images [n,3072] uint8 (the red, the green and the blue plane, row by row) and labels [n] of one batch.

    A pickle can run any program, so `path` is unpickled only if it is bit for bit the official file of its
    name; DatasetError otherwise.
    """
    content = path.read_bytes()  # read once: the bytes checked are the bytes unpickled
    found = hashlib.md5(content).hexdigest()
    if found != OFFICIAL_MD5[path.name]:
        raise DatasetError(
            f"{path}: has MD5 {found} and was not unpickled; allowed are the official file of this name (MD5 "
            f"{OFFICIAL_MD5[path.name]}) or the binary version of CIFAR-10, in which nothing can run"
        )
    batch = pickle.loads(content, encoding="bytes")
    return batch[b"data"], batch[b"labels"]
