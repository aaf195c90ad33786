from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from arena.datasets import Dataset, DatasetError, DatasetSpec, load_dataset
from arena.datasets.gtsrb import CLASS_NAMES

HEAD = ["Filename", "Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId"]
TRACKS, PICTURES, TESTS = 3, 2, 20
N = 43 * TRACKS * PICTURES


def size(number: int) -> tuple[int, int]:
    return 15 + number % 7, 16 + number % 5


def pixels(number: int) -> NDArray[np.uint8]:
    width, height = size(number)
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


def ppm(path: Path, number: int) -> None:
    width, height = size(number)
    path.write_bytes(f"P6\n{width} {height}\n255\n".encode() + pixels(number).tobytes())


def rows(table: Path, names: list[str], numbers: list[int], labels: list[int]) -> None:
    with table.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(HEAD)
        for name, number, label in zip(names, numbers, labels, strict=True):
            writer.writerow([name, *size(number), 5, 5, 10, 10, label])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official layout, its test images numbered from 10,000 and of class 7 i mod 43."""
    root = tmp_path_factory.mktemp("made")
    for label in range(43):
        folder = root / "Final_Training" / "Images" / f"{label:05}"
        folder.mkdir(parents=True)
        names = [f"{track:05}_{k:05}.ppm" for track in range(TRACKS) for k in range(PICTURES)]
        numbers = [label * TRACKS * PICTURES + i for i in range(len(names))]
        for name, number in zip(names, numbers, strict=True):
            ppm(folder / name, number)
        order = [*range(1, len(names)), 0]
        table = folder / f"GT-{label:05}.csv"
        rows(table, [names[i] for i in order], [numbers[i] for i in order], [label] * len(names))
    folder = root / "Final_Test" / "Images"
    folder.mkdir(parents=True)
    for i in range(TESTS):
        ppm(folder / f"{i:05}.ppm", 10_000 + i)
    names = [f"{i:05}.ppm" for i in range(TESTS)]
    rows(
        root / "GT-final_test.csv",
        names,
        [10_000 + i for i in range(TESTS)],
        [7 * i % 43 for i in range(TESTS)],
    )
    (folder / "GT-final_test.test.csv").write_text(";".join(HEAD[:-1]) + "\n")
    return root


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "GTSRB")


def load(path: Path, size: int | None = None) -> Dataset:
    return load_dataset(DatasetSpec(name="gtsrb", path=str(path), size=size))


def shrunk(x: NDArray[Any], n: int) -> NDArray[Any]:
    """The first axis brought to n by the triangle filter, as wide as one pixel of the larger of both."""
    scale = len(x) / n
    wide = max(scale, 1)
    centre = (np.arange(n)[:, None] + 0.5) * scale
    weights = np.clip(1 - np.abs(np.arange(len(x)) + 0.5 - centre) / wide, 0, None)
    return np.tensordot(weights / weights.sum(1, keepdims=True), x, 1)


@pytest.mark.parametrize("side", [8, 32])
def test_images_are_whole_and_resized_by_the_triangle_filter(made: Path, side: int) -> None:
    data = load(made, side)
    assert data.shape == (3, side, side)
    trained = data.train.index
    images = torch.cat([data.games.source[trained], data.games.source[torch.arange(N, N + TESTS)]]).numpy()
    numbers = [*trained.tolist(), *range(10_000, 10_000 + TESTS)]
    for image, number in zip(images, numbers, strict=True):
        columns = shrunk(pixels(number).astype(float).transpose(1, 0, 2), side)
        expected = shrunk(columns.transpose(1, 0, 2), side).transpose(2, 0, 1)
        assert np.abs(image - expected).max() < 1.1  # rounded twice


def test_numbering_labels_and_names(made: Path) -> None:
    data = load(made)
    assert (data.name, data.shape, data.class_names) == ("gtsrb", (3, 32, 32), CLASS_NAMES)
    assert len(data.calibration) == 2  # of 20 classes with one image each
    tested = torch.cat([data.calibration.index, data.games.index])
    assert torch.equal(tested.sort().values, torch.arange(N, N + TESTS))
    for part in (data.calibration, data.games):
        assert torch.equal(part.labels, 7 * (part.index - N) % 43)
    for part in (data.train, data.resources):
        assert torch.equal(part.labels, part.index // (TRACKS * PICTURES))
    assert (len(data.train), len(data.resources)) == (43 * 2 * PICTURES, 43 * PICTURES)
    assert (len(CLASS_NAMES), len(set(CLASS_NAMES)), CLASS_NAMES[14]) == (43, 43, "stop")


def test_no_track_is_in_two_splits(made: Path) -> None:
    data = load(made)
    train, attackers = ((part.index // PICTURES).unique() for part in (data.train, data.resources))
    assert torch.equal(torch.cat([train, attackers]).sort().values, torch.arange(43 * TRACKS))
    for kept, tracks in ((2, train), (1, attackers)):
        assert (tracks // TRACKS).bincount().tolist() == [kept] * 43
    assert min(data.calibration.index.min(), data.games.index.min()) >= N


@pytest.mark.parametrize(
    "place", ["GTSRB", "GTSRB/Final_Test", "GTSRB/Final_Test/Images", ".", "gtsrb", "gtsrb/GTSRB"]
)
def test_places_of_the_folder_and_of_the_test_table(made: Path, tmp_path: Path, place: str) -> None:
    below = "gtsrb/GTSRB" if place.startswith("gtsrb") else "GTSRB"
    shutil.copytree(made, tmp_path / below)
    table = (tmp_path / below / "GT-final_test.csv").rename(tmp_path / "table")
    table.rename(tmp_path / place / "GT-final_test.csv")
    found = load_dataset("gtsrb", [tmp_path])
    assert found.sha == load(made).sha == load(tmp_path / below).sha


def test_training_set_of_the_competition(folder: Path, made: Path) -> None:
    (folder / "Final_Training" / "Images").rename(folder / "Training")
    assert load(folder).sha == load(made).sha


def table(folder: Path, label: int = 3) -> Path:
    return folder / "Final_Training" / "Images" / f"{label:05}" / f"GT-{label:05}.csv"


@pytest.mark.parametrize(
    "lost", ["Final_Training", "Final_Test", "GT-final_test.csv", "Final_Training/Images/00042/GT-00042.csv"]
)
def test_what_is_missing_is_named(folder: Path, lost: str) -> None:
    (shutil.rmtree if (folder / lost).is_dir() else Path.unlink)(folder / lost)
    with pytest.raises(FileNotFoundError, match=rf'^data set "gtsrb": there is no .*{lost}.*; the official'):
        load(folder)


def refusal(folder: Path, path: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        load(folder)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(str(path))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (";ClassId", "", ": the first line must name 'ClassId', with \";\" between"),
        (";", ",", ": the first line must name 'Filename', with \";\" between"),
        (
            "00001_00000.ppm",
            "../00001_00000.ppm",
            ", line 3: found Filename '../00001_00000.ppm'; it must be",
        ),
        (";3\r", ";4\r", r", line 2: found ClassId 4; allowed is 3, as that of its folder"),
        (";3\r", ";43\r", r", line 2: found ClassId 43; allowed is 3"),
        (";3\r", ";x\r", r", line 2: found ClassId 'x'; it must be a whole number"),
        (";3\r", "\r", r", line 2: found ClassId ''; it must be a whole number"),
        ("00001_00001", "00001_00000", ", line 4: 00001_00000.ppm is listed twice"),
        ("00001_00000", "00009_00000", ": lists 00009_00000.ppm, which is not in "),
    ],
)
def test_table_that_does_not_fit(folder: Path, old: str, new: str, told: str) -> None:
    path = table(folder)
    text = path.read_bytes().decode()
    assert old in text
    path.write_bytes(text.replace(old, new).encode())
    assert refusal(folder, path).startswith(told)


def test_table_cut_short_or_of_another_kind(folder: Path) -> None:
    path = table(folder)
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))
    assert refusal(folder, path).startswith(": does not list 00000_00000.ppm of ")
    path.write_bytes(b"")
    assert "must name 'Filename'" in refusal(folder, path)
    path.write_bytes(b"<!DOCTYPE html>\n<html></html>")
    assert "must name 'Filename'" in refusal(folder, path)
    path.write_bytes(b"\xff\xfe\x00;\x80")
    assert refusal(folder, path).startswith(': is no table of text with ";" between: ')
    path.write_bytes(whole)
    test = folder / "GT-final_test.csv"
    test.write_bytes(test.read_bytes().replace(b";7\r", b";43\r"))
    assert "found ClassId 43; allowed is 0 to 42" in refusal(folder, test)


def test_training_images_must_tell_their_track(folder: Path) -> None:
    path = table(folder)
    path.write_bytes(path.read_bytes().replace(b"00001_00000", b"image"))
    (path.parent / "00001_00000.ppm").rename(path.parent / "image.ppm")
    assert "must be named TRACK_NUMBER.ppm" in refusal(folder, path.parent / "image.ppm")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "cannot identify"),
        (b"<!DOCTYPE html>", "cannot identify"),
        (b"P6\n15 16\n255\n" + bytes(700), "found RGB of 15 x 16 pixels, but its table says RGB of 21 x 16"),
        (b"P6\n21 16\n255\n" + bytes(700), ""),
        (b"P6\n21 16\n", ""),
        (b"P6\n99999 99999\n255\n" + bytes(700), "decompression bomb"),
        (b"P5\n21 16\n255\n" + bytes(21 * 16), "found L of 21 x 16 pixels, but its table says RGB"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "cannot identify"),
    ],
)
def test_bad_image_is_told(folder: Path, content: bytes, told: str) -> None:
    path = folder / "Final_Training" / "Images" / "00003" / "00001_00000.ppm"
    assert size(3 * 6 + 2) == (21, 16)
    path.write_bytes(content)
    said = refusal(folder, path)
    assert said.startswith(": is no PPM image, cut short or another's: ")
    assert told in said


def write(path: Path, side: int, classes: int = 43, channels: int = 3) -> Path:
    x = np.random.default_rng(side).integers(0, 256, (2 * classes, channels, side, side), dtype=np.uint8)
    y = np.arange(2 * classes) % classes
    np.savez_compressed(path, train_x=x, train_y=y, test_x=x[:9], test_y=y[:9])
    return path


def test_packed_file_where_there_is_no_folder(folder: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "gtsrb32.npz", 32)
    packed = load(path)
    assert (packed.name, packed.shape, packed.class_names) == ("gtsrb", (3, 32, 32), CLASS_NAMES)
    assert [len(split) for split in packed.splits.values()] == [78, 1, 8, 8]
    assert load_dataset("gtsrb", [tmp_path]).sha == load(folder).sha
    shutil.rmtree(folder)
    assert load_dataset("gtsrb", [tmp_path]).sha == packed.sha
    assert load(write(tmp_path / "other.npz", 48)).shape == (3, 48, 48)


def test_packed_file_of_other_images_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "gtsrb32.npz", 32)
    with pytest.raises(
        DatasetError, match=r"43 classes of images \[3,48,48\], but holds 43 of \[3, 32, 32\]"
    ):
        load(path, 48)
    path = write(tmp_path / "ten.npz", 32, 10)
    with pytest.raises(
        DatasetError, match=r"43 classes of images \[3,32,32\], but holds 10 of \[3, 32, 32\]"
    ):
        load(path)
    with pytest.raises(DatasetError, match=r"but holds 43 of \[1, 32, 32\]"):
        load(write(tmp_path / "grey.npz", 32, channels=1))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=r"ten\.npz: is no \.npz file, or cut short"):
        load(path)


def test_missing_data_set_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARENA_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError, match=r"no GTSRB or gtsrb or gtsrb32\.npz in any of .*; put there"):
        load_dataset("gtsrb")


def test_real_gtsrb(shared_data: Path) -> None:
    data = load_dataset("gtsrb", [shared_data])
    assert (data.name, data.shape, data.classes) == ("gtsrb", (3, 32, 32), 43)
    assert [len(split) for split in data.splits.values()] == [5463, 400, 607, 3600]
    labels = torch.zeros(6070 + 4000, dtype=torch.int64)
    for split in data.splits.values():
        labels[split.index] = split.labels
    assert labels[6070:6080].tolist() == [3, 12, 4, 1, 2, 3, 37, 10, 7, 9]
    assert min(data.calibration.index.min(), data.games.index.min()) == 6070
    share = labels[6070:].bincount(minlength=43) / 10
    assert (data.calibration.labels.bincount(minlength=43) - share).abs().max() <= 0.6  # rounded
