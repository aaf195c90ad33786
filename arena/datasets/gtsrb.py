"""The German Traffic Sign Recognition Benchmark (Stallkamp et al. 2012), from its official archives."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from arena.datasets.dataset import Dataset, DatasetError
from arena.datasets.files import check_kind, read_together
from arena.datasets.npz import npz
from arena.datasets.order import from_tracks
from arena.datasets.source import Source
from arena.datasets.tables import read_table

FOLDER = "GTSRB"
SIZE = 32
TRAINING = ("Final_Training/Images", "Training")
TEST, TEST_TABLE = "Final_Test/Images", "GT-final_test.csv"
KEYS = ("Filename", "Width", "Height", "ClassId")
CLASS_NAMES = (
    *(f"speed limit {limit}" for limit in (20, 30, 50, 60, 70, 80)),
    "end of speed limit 80",
    *("speed limit 100", "speed limit 120", "no passing", "no passing for trucks"),
    *("right of way at the next junction", "priority road", "yield", "stop", "no vehicles", "no trucks"),
    *("no entry", "danger", "curve to the left", "curve to the right", "double curve", "bumpy road"),
    *("slippery road", "road narrows on the right", "road works", "traffic signals", "pedestrians"),
    *("children", "cyclists", "ice or snow", "wild animals", "end of all limits", "turn right", "turn left"),
    *("straight ahead", "straight or right", "straight or left", "keep right", "keep left", "roundabout"),
    *("end of no passing", "end of no passing for trucks"),
)


def gtsrb(path: Path, size: int | None = None) -> Dataset:
    """GTSRB as uint8 [N,3,size,size] (32 if no size is given) from the folder of the official archives.

    The folder holds `Final_Training/Images` (or `Training`, the smaller set of the 2011 competition), with
    one folder per class, 00000 to 00042, of PPM images and their table GT-000NN.csv; and `Final_Test/Images`,
    with GT-final_test.csv in it, in `Final_Test`, in the folder itself or beside the folder. Whole images,
    not the signs' boxes, are resized by Pillow's bilinear filter, which averages over all pixels when it
    shrinks.

    Training images come first in the numbering, by class and file name, then the test images in the order of
    their table: a tenth of them is for calibration, games are played on the others. Pictures of one sign
    taken while a car approached it (a track, named before the underscore in the file name) are nearly the
    same, so train and resources share no track: of each class's tracks a tenth, rounded, but at least one if
    it has two, goes to resources. The tracks of test images are not known: calibration and games may share
    some.

    A file is read in `npz`'s layout (train_x, train_y, test_x, test_y), its images in their own size. It does
    not record tracks, so train and resources may share some.

    Raises FileNotFoundError for what is missing, and DatasetError for a table that does not fit its images
    and an image that is cut short or is not as large as the table says.
    """
    return _packed(path, size) if path.is_file() else _official(path, size or SIZE)


@dataclass(frozen=True, slots=True)
class _Picture:
    path: Path
    label: int
    width: int
    height: int

    @property
    def track(self) -> int:
        """A number for the class and the track; raises DatasetError if the name holds none."""
        if not (match := re.fullmatch(r"(\d{1,9})_\d+\.ppm", self.path.name)):
            raise DatasetError(
                f"{self.path}: must be named TRACK_NUMBER.ppm, or tracks cannot be kept together"
            )
        return int(match[1]) * len(CLASS_NAMES) + self.label


def _packed(path: Path, size: int | None) -> Dataset:
    data = npz(path)
    side = size or data.shape[1]
    if data.shape != (3, side, side) or data.classes != len(CLASS_NAMES):
        raise DatasetError(
            f"{path}: must hold {len(CLASS_NAMES)} classes of images [3,{side},{side}], but holds "
            f"{data.classes} of {list(data.shape)}"
        )
    return replace(data, name="gtsrb", class_names=CLASS_NAMES)


def _official(path: Path, size: int) -> Dataset:
    root = path / FOLDER if (path / FOLDER).is_dir() else path
    training = next((root / name for name in TRAINING if (root / name).is_dir()), root / TRAINING[0])
    test = root / TEST
    places = [place / TEST_TABLE for place in (root, test.parent, test, root.parent)]
    table = next((place for place in places if place.is_file()), places[0])
    pictures: list[_Picture] = []
    for label in range(len(CLASS_NAMES)):
        folder = training / f"{label:05}"
        found = _listed(folder / f"GT-{label:05}.csv", folder, label)
        pictures += sorted(found, key=lambda picture: picture.path.name)
    tracks = torch.tensor([picture.track for picture in pictures])
    pictures += _listed(table, test)
    labels = torch.tensor([picture.label for picture in pictures])
    index = from_tracks(labels[: len(tracks)], tracks, labels[len(tracks) :])
    images = read_together(lambda i: _pixels(pictures[i], size), len(pictures), size)
    return Dataset.cut("gtsrb", images, labels, index, CLASS_NAMES)


def _listed(table: Path, folder: Path, label: int | None = None) -> list[_Picture]:
    """The images of a folder as its table lists them, all of this label if one is given."""
    for path, there in ((folder, folder.is_dir()), (table, table.is_file())):
        if not there:
            raise FileNotFoundError(f'data set "gtsrb": there is no {path}; the official archives hold it')
    pictures = {}
    for where, row in read_table(table, KEYS, between=";"):
        picture = _picture(row, folder, where, label)
        if picture.path.name in pictures:
            raise DatasetError(f"{where}: {picture.path.name} is listed twice")
        pictures[picture.path.name] = picture
    files = {path.name for path in folder.glob("*.ppm")}
    if lost := pictures.keys() - files:
        raise DatasetError(f"{table}: lists {min(lost)}, which is not in {folder} ({len(lost):,} such)")
    if new := files - pictures.keys():
        raise DatasetError(f"{table}: does not list {min(new)} of {folder} ({len(new):,} such)")
    if not pictures:
        raise DatasetError(f"{table}: lists no images")
    return list(pictures.values())


def _picture(row: dict[str, str], folder: Path, where: str, label: int | None) -> _Picture:
    name, *numbers = (row[key] for key in KEYS)
    if Path(name).name != name:
        raise DatasetError(f"{where}: found Filename {name[:80]!r}; it must be that of an image in {folder}")
    for key, number in zip(KEYS[1:], numbers, strict=True):
        if not re.fullmatch(r"[0-9]{1,5}", number):
            raise DatasetError(f"{where}: found {key} {number[:80]!r}; it must be a whole number")
    width, height, found = map(int, numbers)
    if found >= len(CLASS_NAMES) or label not in (None, found):
        allowed = f"0 to {len(CLASS_NAMES) - 1}" if label is None else f"{label}, as that of its folder"
        raise DatasetError(f"{where}: found ClassId {found}; allowed is {allowed}")
    return _Picture(folder / name, found, width, height)


def _pixels(picture: _Picture, size: int) -> NDArray[np.uint8]:
    check_kind(picture.path)
    try:
        with Image.open(picture.path, formats=["PPM"]) as image:
            if image.mode != "RGB" or image.size != (picture.width, picture.height):
                raise ValueError(
                    f"found {image.mode} of {image.width} x {image.height} pixels, but its table says RGB of "
                    f"{picture.width} x {picture.height}"
                )
            resized = image.resize((size, size), Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{picture.path}: is no PPM image, cut short or another's: {error}") from error
    return np.asarray(resized).transpose(2, 0, 1)


SOURCE = Source(
    read=lambda path, spec: gtsrb(path, spec.size),
    places=(FOLDER, "gtsrb", f"gtsrb{SIZE}.npz"),
    advice=(
        f"put there the folder {FOLDER} of the official archives, with {TRAINING[0]}, {TEST} and "
        f"{TEST_TABLE}, or a file gtsrb{SIZE}.npz with train_x, train_y, test_x and test_y, or name another "
        f"place (--data, ARENA_DATA, path)"
    ),
    keys=("path", "size"),
)
