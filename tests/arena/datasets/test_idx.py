from __future__ import annotations

import gzip
import hashlib
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from arena.datasets import Dataset, DatasetError, DatasetSpec, load_dataset

COUNTS = {"train": 60, "t10k": 20}
FILES = [f"{part}-{kind}-ubyte" for part in COUNTS for kind in ("images-idx3", "labels-idx1")]


def content(part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    n = COUNTS[part]
    images = np.random.default_rng(n).integers(0, 256, (n, 28, 28), dtype=np.uint8)
    return images, (np.arange(n) % 10).astype(np.uint8)


def encoded(name: str) -> bytes:
    images, labels = content(name.partition("-")[0])
    if "images" in name:
        return struct.pack(">IIII", 2051, len(images), 28, 28) + images.tobytes()
    return struct.pack(">II", 2049, len(labels)) + labels.tobytes()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for name in FILES:
        (folder / name).write_bytes(encoded(name))
    return folder


@pytest.fixture
def mnist(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "mnist")


def load(folder: Path, name: str = "mnist") -> Dataset:
    return load_dataset(DatasetSpec(name=name, path=str(folder)))


def pack(path: Path) -> Path:
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return packed


def check(data: Dataset) -> None:
    images, labels = (np.concatenate(both) for both in zip(content("train"), content("t10k"), strict=True))
    assert np.array_equal(data.games.source.numpy(), images[:, None])
    assert sorted([*data.calibration.index.tolist(), *data.games.index.tolist()]) == list(range(60, 80))
    assert [len(split) for split in data.splits.values()] == [54, 2, 6, 18]
    for split in data.splits.values():
        assert np.array_equal(split.labels.numpy(), labels[split.index])
        assert np.array_equal((split.images * 255).byte().numpy(), images[split.index][:, None])


def test_training_images_come_first_and_games_are_of_the_test_images(mnist: Path) -> None:
    data = load(mnist)
    check(data)
    assert (data.name, data.shape, data.class_names) == ("mnist", (1, 28, 28), tuple("0123456789"))


def test_packed_and_unpacked_files_in_both_spellings(mnist: Path) -> None:
    sha = load(mnist).sha
    pack(mnist / FILES[0])
    (mnist / FILES[1]).rename(mnist / FILES[1].replace("-idx", ".idx"))
    pack((mnist / FILES[2]).rename(mnist / FILES[2].replace("-idx", ".idx")))
    (mnist / FILES[3]).rename(mnist / f"{FILES[3]}.gz")  # unpacked on the way, as browsers do
    assert load(mnist).sha == sha


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("mnist", "mnist"),
        ("mnist", "MNIST/raw"),
        ("mnist", "MNIST"),
        ("fashion-mnist", "fashion-mnist"),
        ("fashion-mnist", "FashionMNIST/raw"),
        ("fashion-mnist", "FashionMNIST"),
    ],
)
def test_places(made: Path, tmp_path: Path, name: str, place: str) -> None:
    shutil.copytree(made, tmp_path / place)
    data = load_dataset(name, [tmp_path])
    check(data)
    assert data.name == name
    assert data.class_names[9] == ("9" if name == "mnist" else "ankle boot")
    assert data.classes == 10


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(mnist: Path, name: str) -> None:
    (mnist / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"no {name} or {name}\.gz in .*mnist; put the four"):
        load(mnist)


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda raw: b"", r"no idx file of \w+: it must begin with 00 00 08 0\d and . sizes, but"),
    "another's": (lambda raw: b"<!DOCTYPE html>" + raw, "but holds 3c 21 44 4f"),
    "short head": (lambda raw: raw[:7], "but holds no more"),
    "short": (lambda raw: raw[:-1], "must hold [0-9,]+ bytes behind its head, but holds [0-9,]+$"),
    "long": (lambda raw: raw + b"\0", "but holds more"),
    "none": (lambda raw: raw[:4] + bytes(4) + raw[8:], r"says it holds 0.*; allowed are 1 to [16]0,000"),
    "bomb": (lambda raw: raw[:4] + b"\xff" * 4 + raw[8:], r"says it holds 4294967295"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_told(mnist: Path, name: str, packed: bool, kind: str) -> None:
    damage, told = DAMAGE[kind]
    path = mnist / name
    path.write_bytes(damage(path.read_bytes()))
    path = pack(path) if packed else path
    with pytest.raises(DatasetError, match=told) as caught:
        load(mnist)
    assert str(caught.value).startswith(f"{path}: ")


def test_other_dimensions_are_told(mnist: Path) -> None:
    path = mnist / FILES[2]
    path.write_bytes(struct.pack(">IIII", 2051, 20, 32, 32) + bytes(20 * 32 * 32))
    with pytest.raises(DatasetError, match=r"says it holds 20 x 32 x 32; allowed are 1 to 10,000 x 28 x 28$"):
        load(mnist)


def test_labels_in_place_of_images_are_told(mnist: Path) -> None:
    shutil.copy(mnist / FILES[1], mnist / FILES[0])
    with pytest.raises(DatasetError, match=r"train-images.* must begin with 00 00 08 03 and 3 sizes"):
        load(mnist)


def test_counts_must_agree(mnist: Path) -> None:
    path = mnist / FILES[3]
    path.write_bytes(struct.pack(">II", 2049, 19) + bytes(19))
    told = r"t10k-labels-idx1-ubyte: 19 labels, but t10k-images-idx3-ubyte beside it has 20 images"
    with pytest.raises(DatasetError, match=told):
        load(mnist)


def test_strange_label_is_told(mnist: Path) -> None:
    path = mnist / FILES[1]
    path.write_bytes(path.read_bytes()[:-1] + b"\x0a")
    with pytest.raises(DatasetError, match=r"train-labels-idx1-ubyte: found label 10; allowed are 0 to 9"):
        load(mnist)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("at", [-8, -5, -1, "half"])
def test_tampered_packed_file_fails_its_checksum_or_length(mnist: Path, name: str, at: int | str) -> None:
    path = pack(mnist / name)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 if isinstance(at, str) else at] ^= 0x10
    path.write_bytes(raw)
    with pytest.raises(DatasetError) as caught:
        load(mnist)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("left", [1, 9, 18, 60, -8, -1])
def test_packed_file_cut_short(mnist: Path, left: int) -> None:
    path = pack(mnist / FILES[0])
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(DatasetError) as caught:
        load(mnist)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@given(name=st.sampled_from(FILES), at=st.integers(0, 2**20), byte=st.integers(1, 255), end=st.booleans())
def test_no_damage_to_a_packed_file_is_taken_for_data(
    made: Path, tmp_path_factory: pytest.TempPathFactory, name: str, at: int, byte: int, end: bool
) -> None:
    """A byte changed, or the rest lost: what is read is what was written, or an error is raised."""
    folder = shutil.copytree(made, tmp_path_factory.mktemp("damaged"), dirs_exist_ok=True)
    path = pack(folder / name)
    raw = bytearray(path.read_bytes())
    if end:
        del raw[at % len(raw) :]
    else:
        raw[at % len(raw)] ^= byte
    path.write_bytes(raw)
    try:
        check(load(folder))
    except DatasetError as error:
        assert str(error).startswith(f"{path}: ")


MD5 = (
    "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "d53e105ee54ea40749a09fcbcd1e9432",
    "9fb629c4189551a2d022fa330f9573f3",
    "ec29112dd5afa0611ce80d1b7f02629c",
)


def test_official_mnist(shared_data: Path) -> None:
    raw = [(shared_data / "mnist" / f"{name}.gz").read_bytes() for name in FILES]
    assert tuple(hashlib.md5(content).hexdigest() for content in raw) == MD5
    data = load_dataset("mnist", [shared_data])
    assert [len(split) for split in data.splits.values()] == [54_000, 1_000, 6_000, 9_000]
    labels = torch.full((70_000,), -1)
    for split in data.splits.values():
        labels[split.index] = split.labels
    assert labels[60_000:60_008].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]
    assert labels.bincount().tolist() == [*(6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958)]
    assert min(data.calibration.index.min(), data.games.index.min()) == 60_000
    assert labels[60_000:].bincount().tolist() == [*(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)]
    assert data.calibration.labels.bincount().tolist() == [98, 114, 103, 101, 98, 89, 96, 103, 97, 101]
    mean, std = data.train.images.mean(), data.train.images.std()
    assert (float(mean), float(std)) == (pytest.approx(0.1307, abs=5e-4), pytest.approx(0.3081, abs=5e-4))
