from __future__ import annotations

import pickle
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from arena.datasets import Dataset, DatasetError, load_dataset
from arena.datasets.cifar10 import CLASS_NAMES
from arena.datasets.source import DatasetSpec

BATCHES = {"data_batch_1": 40, "data_batch_3": 30, "test_batch": 20}


def content(name: str) -> tuple[NDArray[np.uint8], list[int]]:
    n = BATCHES[name]
    return np.random.default_rng(n).integers(0, 256, (n, 3072), dtype=np.uint8), [i % 10 for i in range(n)]


class Python2:
    """What Python 2's cPickle writes in protocol 2 of texts, numbers, lists, dicts and an array: every text
    is a string of bytes, and what could be met again goes to the memo, numbered from 1."""

    def __init__(self) -> None:
        self.put = 0

    def dump(self, value: Any) -> bytes:
        return b"\x80\x02" + self._any(value) + b"."

    def _memo(self) -> bytes:
        self.put += 1
        return b"q" + bytes([self.put]) if self.put < 256 else b"r" + struct.pack("<I", self.put)

    def _text(self, text: bytes) -> bytes:
        short = len(text) < 256
        return (b"U" + bytes([len(text)]) if short else b"T" + struct.pack("<i", len(text))) + text

    def _number(self, n: int) -> bytes:
        if 0 <= n < 2**8:
            return b"K" + bytes([n])
        return b"M" + struct.pack("<H", n) if 0 <= n < 2**16 else b"J" + struct.pack("<i", n)

    def _any(self, value: Any) -> bytes:
        if isinstance(value, int):
            return self._number(value)
        if isinstance(value, str):
            return self._text(value.encode()) + self._memo()
        if isinstance(value, list):
            return b"]" + self._memo() + b"(" + b"".join(map(self._any, value)) + b"e"
        if isinstance(value, dict):
            memo = self._memo()
            return (
                b"}" + memo + b"(" + b"".join(self._any(key) + self._any(value[key]) for key in value) + b"u"
            )
        return self._array(value)

    def _array(self, x: NDArray[np.uint8]) -> bytes:
        made = b"cnumpy.core.multiarray\n_reconstruct\n" + self._memo() + b"cnumpy\nndarray\n" + self._memo()
        made += b"K\x00\x85U\x01b\x87" + self._memo() + b"R" + self._memo()
        dtype = (
            b"cnumpy\ndtype\n" + self._memo() + b"U\x02u1K\x00K\x01\x87" + self._memo() + b"R" + self._memo()
        )
        dtype += b"(K\x03U\x01|" + self._memo() + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t" + b"b"
        shape = b"".join(map(self._number, x.shape)) + b"\x86" + self._memo()
        return made + b"(K\x01" + shape + dtype + b"\x89" + self._text(x.tobytes()) + b"tb"


def python3(value: Any, protocol: int, keys: type = str) -> bytes:
    plain = {key if keys is str else key.encode(): part for key, part in value.items()}
    return pickle.dumps(plain, protocol)


WRITERS = {
    "python 2": lambda value: Python2().dump(value),
    **{f"python 3, {n}": lambda value, n=n: python3(value, n) for n in (2, 3, 4, 5)},
    "python 3, keys of bytes": lambda value: python3(value, 4, bytes),
}


def batch(name: str) -> dict[str, Any]:
    data, labels = content(name)
    files = [f"automobile_s_{i:06}.png" for i in range(len(labels))]
    return {"batch_label": f"training {name}", "labels": labels, "data": data, "filenames": files}


META = {"num_cases_per_batch": 10000, "label_names": list(CLASS_NAMES), "num_vis": 3072}


def write(folder: Path, writer: str = "python 2") -> Path:
    folder.mkdir(exist_ok=True)
    for name in BATCHES:
        (folder / name).write_bytes(WRITERS[writer](batch(name)))
    (folder / "batches.meta").write_bytes(WRITERS[writer](META))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "cifar-10-batches-py")


def load(folder: Path) -> Dataset:
    return load_dataset(DatasetSpec(name="cifar10", path=str(folder)))


def test_the_writer_writes_what_python_reads() -> None:
    value = pickle.loads(Python2().dump(batch("test_batch")), encoding="latin1")
    data, labels = content("test_batch")
    assert np.array_equal(value["data"], data)
    assert value["labels"] == labels
    assert value["filenames"][19] == "automobile_s_000019.png"


@pytest.mark.parametrize("writer", WRITERS)
def test_both_versions_are_the_same_data_set(tmp_path: Path, writer: str) -> None:
    binary = tmp_path / "elsewhere"
    binary.mkdir()
    for name in BATCHES:
        data, labels = content(name)
        np.column_stack((np.array(labels, np.uint8), data)).tofile(binary / f"{name}.bin")
    write(tmp_path / "cifar-10-batches-py", writer)
    found = load_dataset("cifar10", [tmp_path])
    assert [len(split) for split in found.splits.values()] == [63, 2, 7, 18]
    images, classes = (np.concatenate(parts) for parts in zip(*map(content, BATCHES), strict=True))
    assert np.array_equal(found.games.source.numpy(), images.reshape(-1, 3, 32, 32))
    for split in found.splits.values():
        assert np.array_equal(split.labels.numpy(), classes[split.index])
    assert sorted([*found.calibration.index.tolist(), *found.games.index.tolist()]) == list(range(70, 90))
    assert found.class_names == CLASS_NAMES
    assert load(tmp_path / "cifar-10-batches-py").sha == load(binary).sha == found.sha


def test_binary_folder_is_preferred_and_names_are_optional(folder: Path) -> None:
    (folder / "batches.meta").unlink()
    assert len(load(folder).games) == 18
    binary = folder.parent / "cifar-10-batches-bin"
    binary.mkdir()
    np.zeros((40, 3073), np.uint8).tofile(binary / "test_batch.bin")
    assert len(load_dataset("cifar10", [folder.parent]).games) == 16


def change(folder: Path, name: str = "data_batch_3", **changes: Any) -> str:
    """The sentence about a batch with these values changed; None removes one."""
    value = batch(name) | changes
    (folder / name).write_bytes(
        pickle.dumps({key: part for key, part in value.items() if part is not None}, 4)
    )
    with pytest.raises(DatasetError) as caught:
        load(folder)
    assert str(caught.value).startswith(f"{folder / name}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{folder / name}: ")


def test_wrong_content_is_told(folder: Path) -> None:
    x, y = content("data_batch_3")
    assert (
        change(folder, data=None) == "holds no data, so it is no file of CIFAR-10's official Python version"
    )
    assert "holds no labels" in change(folder, labels=None, fine_labels=y)  # as CIFAR-100 has it
    assert change(folder, data=x[:, :3000]) == "data must be a uint8 array [n,3072], not one [30, 3000]"
    assert "not one [30, 3, 32, 32]" in change(folder, data=x.reshape(-1, 3, 32, 32))
    assert "not one [0, 3072]" in change(folder, data=x[:0])
    assert change(folder, data=x.tolist()[0]) == "data must be a uint8 array [n,3072], not a list"
    assert "an array of type f4" in change(folder, data=x.astype(np.float32))
    assert change(folder, labels=y[:-1]) == "30 images, but 29 labels"
    assert "labels must be a list of whole numbers" in change(folder, labels=[*y[:-1], "3"])
    assert "labels must be a list of whole numbers, not a str" in change(folder, labels="3" * 30)
    assert "found label 10; CIFAR-10 has labels 0 to 9" in change(folder, labels=[*y[:-1], 10])
    assert "found label" in change(folder, labels=[*y[:-1], -1])
    assert "found label" in change(folder, labels=[*y[:-1], 2**70])


def test_a_file_of_another_kind_is_told(folder: Path) -> None:
    path = folder / "test_batch"
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DatasetError, match="test_batch: must hold a dict, not a list"):
        load(folder)
    for content in (b"", b"<!DOCTYPE html>\n<html>Not found</html>", b"\x1f\x8b\x08\x00rest"):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=r"test_batch: is no pickle, cut short or damaged \("):
            load(folder)


def test_names_of_another_data_set_are_told(folder: Path) -> None:
    (folder / "batches.meta").write_bytes(WRITERS["python 2"](META | {"label_names": ["apple", "bee"]}))
    with pytest.raises(DatasetError, match=r"batches\.meta: names 2 classes that are not CIFAR-10's"):
        load(folder)
    (folder / "batches.meta").write_bytes(WRITERS["python 2"](META | {"label_names": "apple"}))
    with pytest.raises(DatasetError, match=r"batches\.meta: label_names must be a list of texts, not a str"):
        load(folder)


def test_test_batch_is_required(folder: Path) -> None:
    (folder / "test_batch").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no test_batch\.bin .* or test_batch .* in .*batches-py; put"
    ):
        load(folder)


class Spy:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (exec, (f"open({str(self.path)!r}, 'w').close()",))


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_malicious_batch_is_refused_and_not_run(folder: Path, tmp_path: Path, name: str) -> None:
    spied = tmp_path / "spied"
    value = (META if name == "batches.meta" else batch(name)) | {"extra": Spy(spied)}
    (folder / name).write_bytes(pickle.dumps(value, 2))
    told = rf"{name}: refused, and nothing in it was run: it holds the name __builtin__\.exec; allowed are"
    with pytest.raises(DatasetError, match=told):
        load(folder)
    assert not spied.exists()


@pytest.mark.parametrize("writer", ["python 2", "python 3, 4"])
def test_damage_never_escapes_as_another_exception(folder: Path, tmp_path: Path, writer: str) -> None:
    raw = WRITERS[writer](batch("test_batch"))
    head = raw.find(bytes(content("test_batch")[0][0, :16]))
    places = [*range(head), *range(len(raw) - 900, len(raw))]  # what is not pixels
    random_ = random.Random(0)
    for _ in range(150):
        damaged = bytearray(raw)
        for at in random_.sample(places, random_.choice((1, 1, 2, 5))):
            damaged[at] = random_.randrange(256)
        if random_.random() < 0.2:
            del damaged[random_.choice(places) :]
        (folder / "test_batch").write_bytes(damaged)
        try:
            assert [len(split) for split in load(folder).splits.values()] == [63, 2, 7, 18]
        except DatasetError as error:
            assert "\n" not in str(error)
            assert len(str(error)) < 600
