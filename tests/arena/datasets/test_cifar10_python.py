from __future__ import annotations

import hashlib
import pickle
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from arena.datasets import Dataset, DatasetError, load_dataset
from arena.datasets.cifar10 import CLASS_NAMES
from arena.datasets.cifar10_python import OFFICIAL_MD5
from arena.datasets.source import DatasetSpec

BATCHES = {"data_batch_1": 40, "data_batch_3": 30, "test_batch": 20}


def content(name: str) -> tuple[NDArray[np.uint8], list[int]]:
    n = BATCHES[name]
    return np.random.default_rng(n).integers(0, 256, (n, 3072), dtype=np.uint8), [i % 10 for i in range(n)]


def python2(data: NDArray[np.uint8], labels: list[int]) -> bytes:
    """A batch as Python 2's cPickle wrote the official files (protocol 2, every text a string of bytes)."""
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    shape = b"".join(b"M" + struct.pack("<H", n) for n in data.shape) + b"\x86"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array += b"(K\x01" + shape + dtype + b"\x89T" + struct.pack("<i", data.size) + data.tobytes() + b"tb"
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(U\x0bbatch_labelU\x05a setU\x06labels" + listed + b"U\x04data" + array + b"u."


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of small batches, whose MD5s count as the official ones."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in BATCHES:
        raw = python2(*content(name))
        (folder / name).write_bytes(raw)
        monkeypatch.setitem(OFFICIAL_MD5, name, hashlib.md5(raw).hexdigest())
    return folder


def load(folder: Path) -> Dataset:
    return load_dataset(DatasetSpec(name="cifar10", path=str(folder)))


def refused(folder: Path, name: str) -> None:
    """Loading tells of this file, its MD5, the allowed one and the other way, in one sentence."""
    found = hashlib.md5((folder / name).read_bytes()).hexdigest()
    told = (
        f"{folder / name}: has MD5 {found} and was not unpickled; allowed are the official file of this name "
        f"(MD5 {OFFICIAL_MD5[name]}) or the binary version of CIFAR-10, in which nothing can run"
    )
    with pytest.raises(DatasetError, match=f"^{re.escape(told)}$"):
        load(folder)


def test_both_versions_are_the_same_data_set(folder: Path) -> None:
    binary = folder.parent / "elsewhere"
    binary.mkdir()
    for name in BATCHES:
        data, labels = content(name)
        np.column_stack((np.array(labels, np.uint8), data)).tofile(binary / f"{name}.bin")
    found = load_dataset("cifar10", [folder.parent])
    assert [len(split) for split in found.splits.values()] == [63, 2, 7, 18]
    images, classes = (np.concatenate(parts) for parts in zip(*map(content, BATCHES), strict=True))
    assert np.array_equal(found.games.source.numpy(), images.reshape(-1, 3, 32, 32))
    for split in found.splits.values():
        assert np.array_equal(split.labels.numpy(), classes[split.index])
    assert sorted([*found.calibration.index.tolist(), *found.games.index.tolist()]) == list(range(70, 90))
    assert found.class_names == CLASS_NAMES
    assert load(folder).sha == load(binary).sha == found.sha


def test_binary_folder_is_preferred(folder: Path) -> None:
    binary = folder.parent / "cifar-10-batches-bin"
    binary.mkdir()
    np.zeros((40, 3073), np.uint8).tofile(binary / "test_batch.bin")
    assert len(load_dataset("cifar10", [folder.parent]).games) == 16


def test_test_batch_is_required(folder: Path) -> None:
    (folder / "test_batch").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no test_batch\.bin .* or test_batch .* in .*batches-py; put"
    ):
        load(folder)


class Spy:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", BATCHES)
def test_a_pickle_that_is_not_official_is_never_loaded(folder: Path, tmp_path: Path, name: str) -> None:
    spied = tmp_path / "spied"
    data, labels = content(name)
    trap = pickle.dumps({b"data": data, b"labels": labels, b"extra": Spy(spied)}, 2)
    (folder / name).write_bytes(trap)
    refused(folder, name)
    assert not spied.exists()
    pickle.loads(trap)
    assert spied.exists()  # the trap works


def test_what_is_not_a_batch_is_never_loaded(folder: Path, tmp_path: Path) -> None:
    (folder / "batches.meta").write_bytes(pickle.dumps(Spy(tmp_path / "spied")))
    assert len(load(folder).games) == 18
    assert not (tmp_path / "spied").exists()


def test_one_changed_bit_and_one_lost_byte_are_refused(folder: Path) -> None:
    raw = (folder / "data_batch_3").read_bytes()
    for changed in (bytes([raw[0] ^ 1]) + raw[1:], raw[:-1], b""):
        (folder / "data_batch_3").write_bytes(changed)
        refused(folder, "data_batch_3")


def test_one_official_file_in_the_place_of_another_is_refused(folder: Path) -> None:
    (folder / "data_batch_3").write_bytes((folder / "data_batch_1").read_bytes())
    refused(folder, "data_batch_3")


def test_the_checksums_are_the_official_ones() -> None:
    assert OFFICIAL_MD5 == {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    }
