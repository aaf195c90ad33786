from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arena.datasets import Dataset, DatasetError, DatasetSpec, load_dataset
from arena.datasets.imagenet import CLASSES, imagenet

WNIDS = [f"n{1440764 + 37 * n:08}" for n in range(CLASSES)]
LIST = "".join(f"{wnid} thing {n}, other name\n" for n, wnid in enumerate(WNIDS))


def put(path: Path, grey: int = 0, size: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), (grey, grey, grey)).save(path)


def filled(folder: Path, classes: dict[str, int], suffix: str = ".JPEG") -> Path:
    """`classes[name]` images in each class folder, hidden and other files beside them."""
    for name, count in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for n in range(count):
            put(folder / name / f"{name}_{n}{suffix}", grey=n)
        (folder / name / "notes.txt").touch()
        (folder / name / ".hidden.png").touch()
    (folder / ".ipynb_checkpoints").mkdir(exist_ok=True)
    return folder


def classes_of(data: Dataset) -> dict[str, int]:
    """The class of each file, by the names that the images have on the disk."""
    files = data.games.source
    return {
        files.names[number]: label  # type: ignore[attr-defined]
        for split in data.splits.values()
        for number, label in zip(split.index.tolist(), split.labels.tolist(), strict=True)
    }


def test_own_class_folders_are_the_classes_in_sorted_order(tmp_path: Path) -> None:
    data = imagenet(filled(tmp_path / "mine", {"dog": 12, "Cat": 10, "eel": 8}, ".png"), size=8)
    assert data.class_names == ("Cat", "dog", "eel")
    assert data.shape == (3, 8, 8)
    found = classes_of(data)
    assert len(found) == 30
    assert all(data.class_names[label] == name.partition("/")[0] for name, label in found.items())
    assert [len(split) for split in data.splits.values()] == [12, 3, 3, 12]
    numbers = torch.cat([split.index for split in data.splits.values()])
    assert torch.equal(numbers.sort().values, torch.arange(30))


def test_all_wordnet_folders_are_the_classes_in_sorted_order(tmp_path: Path) -> None:
    for wnid in WNIDS:
        (tmp_path / wnid).mkdir()
    filled(tmp_path, {WNIDS[n]: 3 for n in (0, 8, 400, 999)})
    data = imagenet(tmp_path, size=8)
    assert (data.classes, data.class_names[400]) == (1000, WNIDS[400])
    assert set(classes_of(data).values()) == {0, 8, 400, 999}


@pytest.mark.parametrize("name", ["LOC_synset_mapping.txt", "synset_words.txt"])
@pytest.mark.parametrize("beside", ["imagenet/val", "imagenet"])
def test_of_fewer_wordnet_folders_the_list_beside_them_tells(tmp_path: Path, name: str, beside: str) -> None:
    filled(tmp_path / "imagenet" / "val", {WNIDS[n]: 4 for n in (7, 300, 999)})
    with pytest.raises(DatasetError) as caught:
        load_dataset("imagenet", [tmp_path])
    told = f"{tmp_path}/imagenet/val: 3 WordNet ids do not tell which of the 1,000 classes they are; put "
    assert str(caught.value).startswith(told + "LOC_synset_mapping.txt or synset_words.txt there or into ")
    (tmp_path / beside / name).write_text(LIST)
    for path in (None, "imagenet/val", str(tmp_path / "imagenet" / "val")):
        data = load_dataset(DatasetSpec(name="imagenet", path=path, size=8), [tmp_path])
        assert (data.classes, data.class_names[300]) == (1000, "thing 300")
        assert {file.split("/")[-2]: y for file, y in classes_of(data).items() if "/" in file} == {
            WNIDS[n]: n for n in (7, 300, 999)
        }


def test_train_beside_val_is_what_is_trained_on(tmp_path: Path) -> None:
    (tmp_path / "synset_words.txt").write_text(LIST)
    filled(tmp_path / "train", {WNIDS[n]: 10 for n in (1, 2)})
    filled(tmp_path / "val", {WNIDS[n]: 3 for n in (1, 2, 5)})
    data = imagenet(tmp_path, size=8)
    assert [len(split) for split in data.splits.values()] == [18, 1, 2, 8]
    names = data.games.source.names  # type: ignore[attr-defined]
    for split, part in data.splits.items():
        folder = "val/" if split in ("calibration", "games") else "train/"
        assert all(names[n].startswith(folder) for n in part.index.tolist())


def test_flat_folder_with_labels(tmp_path: Path) -> None:
    names = [f"{n}.png" for n in range(20)]
    for n, name in enumerate(names):
        put(tmp_path / name, grey=n)
    put(tmp_path / "unlisted.png")
    rows = "".join(f"{name},{49 * n},{WNIDS[n] if n == 3 else ''}\n" for n, name in enumerate(names))
    (tmp_path / "labels.csv").write_text("\ufefffile,label,wnid\r\n" + rows)
    data = imagenet(tmp_path, size=8)
    assert data.classes == 49 * 19 + 1
    assert (data.class_names[49], data.class_names[3 * 49]) == ("49", WNIDS[3])
    assert classes_of(data) == {name: 49 * n for n, name in enumerate(names)}
    for part in data.splits.values():
        assert torch.equal((part.images[:, 0, 0, 0] * 255).round() * 49, part.labels.float())
    (tmp_path / "synset_words.txt").write_text(LIST)
    assert imagenet(tmp_path).class_names[49] == "thing 49"


def test_one_image_a_class_is_spread_over_the_splits(tmp_path: Path) -> None:
    for n in range(100):
        put(tmp_path / f"{n:03}.png")
    (tmp_path / "labels.csv").write_text("file,label\n" + "".join(f"{n:03}.png,{n}\n" for n in range(100)))
    data = imagenet(tmp_path)
    assert [len(split) for split in data.splits.values()] == [40, 10, 10, 40]
    for part in (data.train, data.games):
        assert 30 < part.labels.double().mean() < 70
        assert torch.equal(part.labels, part.index)


def test_kaggle_layout(tmp_path: Path) -> None:
    val = tmp_path / "ILSVRC" / "Data" / "CLS-LOC" / "val"
    solution = "ImageId,PredictionString\n"
    for n in range(20):
        put(val / f"ILSVRC2012_val_{n:08}.JPEG")
        solution += f"ILSVRC2012_val_{n:08},{WNIDS[n % 4 * 100]} 85 1 499 272 {WNIDS[n % 4 * 100]} 1 1 9 9 \n"
    (tmp_path / "LOC_val_solution.csv").write_text(solution)
    (tmp_path / "LOC_synset_mapping.txt").write_text(LIST)
    data = imagenet(tmp_path, size=8)
    assert data.classes == 1000
    found = classes_of(data)
    assert all(y == int(name[-13:-5]) % 4 * 100 for name, y in found.items())
    put(val / "ILSVRC2012_val_00000020.JPEG")
    with pytest.raises(
        DatasetError, match=r"solution\.csv: has no class for ILSVRC2012_val_00000020\.JPEG of "
    ):
        imagenet(tmp_path)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (
            "a.png,0\n",
            r"labels\.csv: the first line must name 'file', .* found a\.png,0",
        ),
        ("", r"labels\.csv: the first line must name 'file', .* found nothing"),
        ("file,label\n", r"labels\.csv: lists no images"),
        ("file,label\na.png,0\nb.png,1\n", r"labels\.csv, line 3: lists b\.png, which is not in "),
        ("file,label\na.png,0\na.png,1\n", r"labels\.csv, line 3: a\.png is listed twice"),
        ("file,label\na.png,tench\n", r"line 2: found label 'tench'; it must be the number of a class"),
        ("file,label\na.png,-1\n", r"line 2: found label '-1'; it must be the number of a class"),
        ("file,label\na.png,1000000000\n", r"line 2: found label '1000000000'; it must be"),
        ("file,label\na.png\n", r"line 2: found label ''"),
        ("file,label\n../a.png,0\n", r"line 2: found file '\.\./a\.png'; it must lie in "),
        ("file,label\n/etc/a.png,0\n", r"line 2: found file '/etc/a\.png'; it must lie in "),
        ("file,label\na.png,0\n", r"1 images are too few to fill split"),
        (b"file,label\n\xff\xfe,0\n", r"labels\.csv: is no table of text with"),
    ],
)
def test_bad_labels_are_told_when_they_are_loaded(tmp_path: Path, table: str | bytes, told: str) -> None:
    put(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(DatasetError, match=told) as caught:
        imagenet(tmp_path)
    assert "\n" not in str(caught.value)


def test_folders_that_say_no_classes(tmp_path: Path) -> None:
    empty = tmp_path / "imagenet"
    empty.mkdir()
    with pytest.raises(DatasetError, match=r"imagenet: found no images; put a folder imagenet there"):
        load_dataset("imagenet", [tmp_path])
    put(empty / "a.png")
    with pytest.raises(
        DatasetError, match=r"found 1 images and no labels; put labels\.csv \(file,label\) or LOC_val"
    ):
        load_dataset("imagenet", [tmp_path])
    with pytest.raises(DatasetError, match=r"a\.png is a file; put a folder"):
        load_dataset(DatasetSpec(name="imagenet", path="imagenet/a.png"), [tmp_path])
    filled(empty, {WNIDS[0]: 3, "things": 3})
    with pytest.raises(DatasetError, match='"things" is no WordNet id as the other class folders are'):
        load_dataset("imagenet", [tmp_path])


def test_a_parent_folder_given_by_mistake(tmp_path: Path) -> None:
    filled(tmp_path / "data" / "imagenet", {WNIDS[0]: 3})
    filled(tmp_path / "data", {"pictures": 20, "weights": 0})
    with pytest.raises(DatasetError) as caught:
        load_dataset(DatasetSpec(name="imagenet", path="data"), [tmp_path])
    assert str(caught.value) == (
        f'{tmp_path}/data: class folder "imagenet" holds no images (2 such of 3), as only those of WordNet '
        "ids may; take it away, or name the folder of the class folders"
    )


def test_an_own_class_may_have_no_images_in_one_of_two_folders(tmp_path: Path) -> None:
    filled(tmp_path / "train", {"a": 10, "b": 10})
    filled(tmp_path / "val", {"a": 10, "b": 0})
    assert imagenet(tmp_path, size=8).class_names == ("a", "b")


def test_class_lists_are_checked(tmp_path: Path) -> None:
    filled(tmp_path, {WNIDS[n]: 4 for n in (0, 999)})
    listed = tmp_path / "synset_words.txt"
    listed.write_text("".join(LIST.splitlines(keepends=True)[:900]))
    with pytest.raises(DatasetError, match=rf"class {WNIDS[999]} is not in .*synset_words\.txt"):
        imagenet(tmp_path)
    listed.write_text(LIST + WNIDS[3])
    with pytest.raises(DatasetError, match=rf'words\.txt, line 1001: "{WNIDS[3]}" is listed twice'):
        imagenet(tmp_path)
    listed.write_text("tench, Tinca tinca\n")
    with pytest.raises(DatasetError, match=r'words\.txt, line 1: "tench," is no WordNet id'):
        imagenet(tmp_path)


def test_an_image_that_cannot_be_read_does_not_hinder_the_others(tmp_path: Path) -> None:
    filled(tmp_path, {"a": 10, "b": 10})
    (tmp_path / "b" / "b_3.JPEG").write_bytes(b"")
    data = imagenet(tmp_path, size=8)
    with pytest.raises(DatasetError, match=r"b/b_3\.JPEG: is empty"):
        for part in data.splits.values():
            part.images  # noqa: B018


def test_real_images(shared_data: Path) -> None:
    """250 images 224x224, one of every fourth class, as Pillow reads them."""
    data = load_dataset("imagenet", [shared_data])
    assert (data.shape, [len(split) for split in data.splits.values()]) == ((3, 224, 224), [100, 25, 25, 100])
    found = classes_of(data)
    assert sorted(found.values()) == list(range(0, 1000, 4))
    assert all(int(name[:4]) == y for name, y in found.items())
    place = torch.tensor([17, 3])
    for x, number in zip(data.games.take(place), data.games.index[place].tolist(), strict=True):
        path = shared_data / "imagenet" / data.games.source.names[number]  # type: ignore[attr-defined]
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        assert np.array_equal((x * 255).round().to(torch.uint8).permute(1, 2, 0).numpy(), pixels)
    small = load_dataset(DatasetSpec(name="imagenet", size=64), [shared_data])
    assert small.games.take(place).shape == (2, 3, 64, 64)
    assert small.sha != data.sha
