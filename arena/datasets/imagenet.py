"""ImageNet (Russakovsky et al. 2015), and other folders of images in its layouts.

A folder is read in one of three ways:

- class folders named by WordNet ids. All 1,000 of them, sorted, are the classes in their usual order. For
  fewer, a class list beside them gives the order, one line per class: `LOC_synset_mapping.txt` or
  `synset_words.txt`, with lines such as "n01440764 tench, Tinca tinca". Class folders with other names are
  the classes in sorted order, and each must hold images.
- images with `labels.csv` among them: a header `file,label` or `file,label,wnid`, then one line per image:
  its name in the folder, the number of its class, and a WordNet id that names the class if no list does.
- images with Kaggle's `LOC_val_solution.csv` beside them.

If a folder holds `train` and `val`, each is read in one of these ways: a tenth of `val` is for calibration,
games are played on the rest of it, and the images of `train` are for training and resources. Kaggle's own
layout, ILSVRC/Data/CLS-LOC, is found within a folder. "Beside" means in the folder of the images, in its
parent, or in the folder that was named.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from arena.datasets.dataset import MOST_CLASSES, Dataset, DatasetError
from arena.datasets.files import ImageFiles
from arena.datasets.order import from_one, from_two, shuffled
from arena.datasets.source import Source
from arena.datasets.tables import read_table
from arena.inputs.places import kind_of
from arena.messages import quoted

FOLDER = "imagenet"
SIZE = 224
CLASSES = 1000
KAGGLE = "ILSVRC/Data/CLS-LOC"
LABELS = "labels.csv"
SOLUTION, ANSWERS = "LOC_val_solution.csv", ("ImageId", "PredictionString")
LISTS = ("LOC_synset_mapping.txt", "synset_words.txt")
SUFFIXES = {".jpeg", ".jpg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
WORDNET = re.compile(r"n\d{8}")


@dataclass
class _Part:
    """A folder of images.

    Attributes:
        files: their names in it.
        classes: the class of each image, its number or its word (a WordNet id, the name of a class folder).
        words: all words that are classes, those without images included.
        named: names of numbered classes.
    """

    folder: Path
    files: list[str] = field(default_factory=list)
    classes: list[int | str] = field(default_factory=list)
    words: set[str] = field(default_factory=set)
    named: dict[int, str] = field(default_factory=dict)


def imagenet(path: Path, size: int = SIZE) -> Dataset:
    """The images of a folder as uint8 [N,3,size,size], read when needed.

    Images for training come first in the numbering; each part is in sorted order of its class folders and
    files, or in that of its list. Without `train` beside `val`, the images are cut into the four splits.
    Raises DatasetError for a folder that defines no classes, lists what is not there, or holds too few
    images.
    """
    if not path.is_dir():
        raise DatasetError(f'data set "imagenet": {path} is a file; {ADVICE}')
    root = path / KAGGLE if (path / KAGGLE).is_dir() else path
    inside = [root / name for name in ("train", "val") if (root / name).is_dir()]
    parts = [_part(folder, path) for folder in ([root] if (root / LABELS).is_file() else inside or [root])]
    numbers, names = _numbered(parts, path)
    labels = [torch.tensor([numbers.get(c, c) for c in part.classes], dtype=torch.int64) for part in parts]
    files = [str((part.folder / name).relative_to(path)) for part in parts for name in part.files]
    index = _mixed(*labels) if len(parts) == 1 else from_two(*labels)
    return Dataset.cut("imagenet", ImageFiles(path, files, size), torch.cat(labels), index, names)


def _mixed(labels: Tensor) -> dict[str, Tensor]:
    """The four splits of the images in a shuffled order: if each class had one image, splits in the order of
    the classes would hold different classes."""
    order = torch.from_numpy(shuffled(len(labels), 0, "imagenet"))
    return {split: order[rows].sort().values for split, rows in from_one(labels[order]).items()}


def _part(folder: Path, path: Path) -> _Part:
    if (folder / LABELS).is_file():
        return _labelled(folder)
    below, images = _listing(folder)
    if below:
        part = _Part(folder, words=set(below))
        for name in below:
            found = _listing(folder / name)[1]
            part.files += [f"{name}/{file}" for file in found]
            part.classes += [name] * len(found)
    elif images and (solution := _beside(folder, path, SOLUTION)):
        part = _solved(folder, images, solution)
    elif images:
        raise DatasetError(
            f"{folder}: found {len(images):,} images and no labels; put {LABELS} (file,label) or {SOLUTION} "
            f"there, or the images into one folder a class"
        )
    else:
        part = _Part(folder)
    if not part.files:
        raise DatasetError(f"{folder}: found no images; {ADVICE}")
    return part


def _listing(folder: Path) -> tuple[list[str], list[str]]:
    """The folders in a folder, and the images, sorted; hidden ones are left out."""
    below, images = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if kind_of(folder / entry.name) == "folder":
                below.append(entry.name)
            elif Path(entry.name).suffix.lower() in SUFFIXES:
                images.append(entry.name)
    return sorted(below), sorted(images)


def _labelled(folder: Path) -> _Part:
    """The images that `labels.csv` lists."""
    table, part, seen = folder / LABELS, _Part(folder), set[str]()
    for where, row in read_table(table, ("file", "label")):
        file, label = row["file"].strip(), row["label"].strip()
        if not re.fullmatch("[0-9]{1,9}", label) or int(label) >= MOST_CLASSES:
            raise DatasetError(
                f"{where}: found label {quoted(label)}; it must be the number of a class, from 0"
            )
        if not file or Path(file).is_absolute() or ".." in Path(file).parts:
            raise DatasetError(f"{where}: found file {quoted(file)}; it must lie in {folder}")
        if file in seen:
            raise DatasetError(f"{where}: {file} is listed twice")
        if not (folder / file).is_file():
            raise DatasetError(f"{where}: lists {file}, which is not in {folder}")
        seen.add(file)
        part.files.append(file)
        part.classes.append(int(label))
        if wnid := (row.get("wnid") or "").strip():
            part.named[int(label)] = wnid
    if not part.files:
        raise DatasetError(f"{table}: lists no images")
    return part


def _solved(folder: Path, images: list[str], solution: Path) -> _Part:
    """The images that are there, with the WordNet ids that Kaggle's solution gives them."""
    answers = {row["ImageId"]: row["PredictionString"] for _, row in read_table(solution, ANSWERS)}
    part = _Part(folder, images)
    for name in images:
        wnid = answers.get(Path(name).stem, "").partition(" ")[0]
        if not WORDNET.fullmatch(wnid):
            raise DatasetError(f"{solution}: has no class for {name} of {folder}")
        part.classes.append(wnid)
        part.words.add(wnid)
    return part


def _numbered(parts: list[_Part], path: Path) -> tuple[dict[int | str, int], tuple[str, ...]]:
    """The numbers of the classes that are words, and the names of all classes."""
    words = sorted(set[str]().union(*(part.words for part in parts)))
    named = {number: name for part in parts for number, name in part.named.items()}
    top = max((c for part in parts for c in part.classes if isinstance(c, int)), default=-1)
    folder = parts[-1].folder
    wordnet = [word for word in words if WORDNET.fullmatch(word)]
    if wordnet and len(wordnet) < len(words):
        other = min(set(words) - set(wordnet))
        raise DatasetError(f'{folder}: "{other}" is no WordNet id as the other class folders are')
    if empty := set() if wordnet else set(words).difference(*(part.classes for part in parts)):
        raise DatasetError(
            f'{folder}: class folder "{min(empty)}" holds no images ({len(empty):,} such of {len(words):,}), '
            f"as only those of WordNet ids may; take it away, or name the folder of the class folders"
        )
    if words and not wordnet and top >= 0:
        raise DatasetError(f"{path}: class folders of names of their own cannot be played with {LABELS}")
    listed = next(
        (found for part in parts for name in LISTS if (found := _beside(part.folder, path, name))), None
    )
    known = _class_list(listed) if listed and (wordnet or not words) else {}
    if listed and (unknown := [word for word in wordnet if word not in known]):
        raise DatasetError(f"{folder}: class {unknown[0]} is not in {listed}")
    if wordnet and not known and len(wordnet) < CLASSES:
        raise DatasetError(
            f"{folder}: {len(wordnet)} WordNet ids do not tell which of the {CLASSES:,} classes they are; "
            f'put {" or ".join(LISTS)} there or into {folder.parent}, a line a class in order ("n01440764 '
            f'tench, Tinca tinca")'
        )
    order = list(known) or words
    texts = dict(enumerate(known.values() or words))
    names = tuple(texts.get(n) or named.get(n) or str(n) for n in range(max(len(texts), top + 1)))
    return {word: number for number, word in enumerate(order)}, names


def _class_list(file: Path) -> dict[str, str]:
    """Names by WordNet id, in order; of several synonyms the first."""
    classes: dict[str, str] = {}
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file}: is no text: {error}") from error
    for number, line in enumerate(lines, 1):
        wnid, _, name = line.strip().partition(" ")
        if not line.strip():
            continue
        if not WORDNET.fullmatch(wnid) or wnid in classes:
            what = "is listed twice" if wnid in classes else "is no WordNet id"
            raise DatasetError(f'{file}, line {number}: "{wnid[:40]}" {what}')
        classes[wnid] = name.partition(",")[0].strip() or wnid
    return classes


def _beside(folder: Path, path: Path, name: str) -> Path | None:
    places = (folder, folder.parent, path)
    return next((place / name for place in places if (place / name).is_file()), None)


ADVICE = (
    f"put a folder {FOLDER} there: one folder of images a class, such as n01440764, or images with {LABELS} "
    f"(file,label), or both train and val of such; or name another place (--data, ARENA_DATA, path)"
)
SOURCE = Source(
    read=lambda path, spec: imagenet(path, spec.size or SIZE),
    places=(FOLDER,),
    advice=ADVICE,
    keys=("path", "size"),
)
