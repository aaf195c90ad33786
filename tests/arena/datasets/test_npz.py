from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from arena.datasets import Dataset, DatasetError, DatasetSpec, load_dataset

N = 20
Y = np.arange(N) % 4


def images(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def load(tmp_path: Path, layout: Any = None, **arrays: Any) -> Dataset:
    np.savez_compressed(tmp_path / "mine.npz", **arrays)
    return load_dataset(DatasetSpec(name="npz", path="mine.npz", layout=layout), [tmp_path])


def planes(data: Dataset) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = data.games.source.numpy()
    return found


@pytest.mark.parametrize(
    ("shape", "layout", "axes"),
    [
        ((N, 3, 5, 6), None, (0, 1, 2, 3)),
        ((N, 1, 5, 6), None, (0, 1, 2, 3)),
        ((N, 5, 6, 3), None, (0, 3, 1, 2)),
        ((N, 5, 6, 1), None, (0, 3, 1, 2)),
        ((N, 3, 5, 3), "nchw", (0, 1, 2, 3)),
        ((N, 3, 5, 3), "nhwc", (0, 3, 1, 2)),
        ((N, 4, 5, 6), "nchw", (0, 1, 2, 3)),
        ((N, 5, 6, 4), "nhwc", (0, 3, 1, 2)),
    ],
)
def test_axes_are_found_or_told(
    tmp_path: Path, shape: tuple[int, ...], layout: Any, axes: tuple[int, ...]
) -> None:
    x = images(*shape)
    data = load(tmp_path, layout, x=x, y=Y)
    assert np.array_equal(planes(data), x.transpose(axes))
    assert data.name == "mine"
    assert data.classes == 4
    assert sum(len(split) for split in data.splits.values()) == N


def test_grey_images_get_their_channel(tmp_path: Path) -> None:
    x = images(N, 5, 6)
    assert np.array_equal(planes(load(tmp_path, x=x, y=Y)), x[:, None])


def test_calibration_and_games_are_of_the_test_images(tmp_path: Path) -> None:
    train, test = images(N, 3, 4, 4), images(6, 3, 4, 4)[::-1]
    labels = np.array([0, 1, 2, 3, 0, 1], np.uint8)
    data = load(tmp_path, train_x=train, train_y=Y, test_x=test, test_y=labels)
    assert [len(split) for split in data.splits.values()] == [18, 1, 2, 5]
    assert sorted([*data.calibration.index.tolist(), *data.games.index.tolist()]) == list(range(N, N + 6))
    for split in (data.calibration, data.games):
        rows = split.index.numpy() - N
        assert torch.equal(split.images, torch.from_numpy(test[rows] / np.float32(255)))
        assert split.labels.tolist() == labels[rows].tolist()
        assert split.labels.dtype == torch.int64
    assert np.array_equal(planes(data), np.concatenate([train, test]))


def test_a_single_test_image_leaves_none_to_play_on(tmp_path: Path) -> None:
    x, y = images(N, 3, 4, 4), Y
    with pytest.raises(DatasetError, match=r"data set 'mine': .* too few to fill split 'games'"):
        load(tmp_path, train_x=x, train_y=y, test_x=x[:1], test_y=y[:1])
    data = load(tmp_path, train_x=x, train_y=y, test_x=x[:2], test_y=y[:2])
    assert [len(split) for split in data.splits.values()] == [18, 1, 2, 1]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_float_images_become_float32(tmp_path: Path, kind: type[np.floating[Any]]) -> None:
    x = (images(N, 3, 4, 4) / 255).astype(kind)
    data = load(tmp_path, x=x, y=Y)
    assert data.games.source.dtype == torch.float32
    assert np.array_equal(planes(data), x.astype(np.float32))


GOOD = images(N, 3, 4, 4)
LOW, HIGH, NAN = (GOOD / 255.0 for _ in range(3))
LOW[3, 0, 0, 0], HIGH[3, 0, 0, 0], NAN[3, 0, 0, 0] = -0.01, 1.01, np.nan


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"x": GOOD}, "found the keys x; allowed are x and y, or train_x, train_y, test_x and test_y"),
        ({}, "found the keys of nothing"),
        ({"train_x": GOOD, "train_y": Y, "test_x": GOOD}, "found the keys train_x, train_y, test_x; allowed"),
        ({"x": images(N, 3, 5, 3), "y": Y}, r'x: \[20, 3, 5, 3\] could be .* say layout = "nchw" or "nhwc"'),
        ({"x": images(N, 4, 5, 6), "y": Y}, r"\[20, 4, 5, 6\] could be"),
        ({"x": images(N, 12), "y": Y}, r"not \[20, 12\]"),
        ({"x": GOOD.astype(np.int64), "y": Y}, "must be uint8, or float in .0,1., not int64"),
        ({"x": LOW, "y": Y}, r"not in \[-0\.01, "),
        ({"x": HIGH, "y": Y}, r", 1\.01\]"),
        ({"x": NAN, "y": Y}, r"not in \[nan, nan\]"),
        ({"x": GOOD, "y": Y[1:]}, r"y: labels must be whole numbers \[20\], not int64 \[19\]"),
        ({"x": GOOD, "y": Y / 1.0}, r"not float64 \[20\]"),
        ({"x": GOOD, "y": Y - 1}, "labels must be from 0 to 99,999, not -1"),
        ({"x": GOOD, "y": Y * 10**12}, r"labels must be from 0 to 99,999, not \d+0{12}"),
        ({"x": GOOD[:3], "y": Y[:3]}, "3 images are too few to fill split"),
        (
            {"x": np.array([{}, {}]), "y": Y[:2]},
            "cannot be read as an .npz file of plain arrays: Object arrays",
        ),
        (
            {"train_x": GOOD, "train_y": Y, "test_x": images(N, 3, 4, 5), "test_y": Y},
            r"of one shape and type, not torch.uint8 \[20, 3, 4, 4\] and torch.uint8 \[20, 3, 4, 5\]",
        ),
    ],
)
def test_bad_content_is_told_in_one_sentence(tmp_path: Path, arrays: dict[str, Any], told: str) -> None:
    with pytest.raises(DatasetError, match=told) as caught:
        load(tmp_path, **arrays)
    assert str(tmp_path / "mine.npz") in str(caught.value) or "too few" in told
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["truncated", "damaged", "text", "empty", "one array", "huge"])
def test_broken_file_is_told_in_one_sentence(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, x=GOOD, y=Y)
    whole = path.read_bytes()
    middle = len(whole) // 3
    content = {
        "truncated": whole[:-200],
        "damaged": whole[:middle] + bytes(b ^ 255 for b in whole[middle : middle + 9]) + whole[middle + 9 :],
        "text": b"label,pixels\n",
        "empty": b"",
        "one array": b"",
        "huge": b"",
    }
    path.write_bytes(content[kind])
    if kind == "one array":
        with path.open("wb") as file:
            np.save(file, GOOD)
    if kind == "huge":
        header = io.BytesIO()
        claimed = {"descr": "|u1", "fortran_order": False, "shape": (10**15,)}
        np.lib.format.write_array_header_1_0(header, claimed)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", header.getvalue())
    with pytest.raises(
        DatasetError, match=r"mine\.npz: (cannot be read as an .npz file|is no .npz file, or cut short)"
    ):
        load_dataset(DatasetSpec(name="npz", path=str(path)))
