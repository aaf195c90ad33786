"""What a defender gets to prepare itself leads to no image of the games, and is nobody else's."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import arena
from arena.classifiers import Classifier
from arena.classifiers.served import asking
from arena.conformance.tiny_worlds import tiny_world
from arena.datasets import Dataset, Split
from arena.datasets.files import ImageFiles
from arena.datasets.imagenet import imagenet
from arena.datasets.npz import npz
from arena.envs.setup import build_setup
from arena.game.blame import DefenderError
from arena.game.prepared import read, written
from arena.game.preparing import MissingPart, OwnSplits
from arena.game.stack import prepare
from arena.notebook.ground import data_of
from arena.players import Defender, Splits

N, SHAPE = 40, (3, 4, 4)
PARTS = ("train", "calibration")
Make = Callable[[Path], Dataset]


def in_bytes(folder: Path) -> Dataset:
    x = np.random.default_rng(0).integers(0, 256, (N, *SHAPE), dtype=np.uint8)
    np.savez(folder / "own.npz", x=x, y=np.arange(N) % 4)
    return npz(folder / "own.npz", "nchw")


def in_floats(folder: Path) -> Dataset:
    x = np.random.default_rng(0).random((N, *SHAPE), dtype=np.float32)
    np.savez(folder / "own.npz", x=x, y=np.arange(N) % 4)
    return npz(folder / "own.npz", "nchw")


def in_files(folder: Path) -> Dataset:
    noise = np.random.default_rng(0).integers(0, 256, (N, *SHAPE[1:], 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        place = folder / f"class{number % 4}" / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(place)
    return imagenet(folder, size=4)


@pytest.fixture(params=[in_bytes, in_floats, in_files])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    make: Make = request.param
    return make(tmp_path)


@pytest.fixture
def classifier() -> Classifier:
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 4))
    return Classifier(net.eval().requires_grad_(False), shape=SHAPE, classes=4)


def everything(*start: object) -> Iterator[object]:
    """All that can be reached by attributes, items and closures; not by modules, classes and the globals of
    functions, which lead to the whole interpreter."""
    todo, seen = list(start), dict[int, object]()
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, type | ModuleType | str | bytes | int | float):
            continue
        seen[id(one)] = one
        yield one
        if isinstance(one, Mapping):
            todo += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set | frozenset):
            todo += one
        elif isinstance(one, FunctionType):
            todo += [cell.cell_contents for cell in one.__closure__ or ()]
        elif isinstance(one, MethodType):
            todo += [one.__self__, one.__func__]
        elif isinstance(one, Tensor):
            todo += [one.grad, one.grad_fn, one._base]
        elif isinstance(one, BaseException):
            todo += [one.__traceback__, one.__cause__, one.__context__, *one.args]
        todo += [getattr(one, "__dict__", None), *(getattr(one, n, None) for n in slots_of(one))]


def slots_of(one: object) -> list[str]:
    return [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]


def found_of(split: Split, among: tuple[object, ...]) -> list[int]:
    """Which images of a split can be found, in the storage of a tensor or as the name of a file."""
    reached = list(everything(*among))
    storages = [bytes(one.untyped_storage()) for one in reached if isinstance(one, Tensor)]
    names = {name for one in reached if isinstance(one, ImageFiles) for name in one.names}
    if isinstance(split.source, ImageFiles):
        return [n for n in split.index.tolist() if split.source.names[n] in names]
    pixels = split.source[split.index]
    forms = [pixels, split.take(slice(None))]
    return [
        int(number)
        for place, number in enumerate(split.index)
        if any(form[place].numpy().tobytes() in storage for form in forms for storage in storages)
    ]


@dataclass(frozen=True)
class Keeps(Defender):
    """Keeps all that it is given."""

    given: tuple[object, ...] = ()

    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        assert not hasattr(splits, "games") and not hasattr(splits, "resources")
        _ = splits.train.take(slice(0, 2)), classifier(splits.calibration.images)
        object.__setattr__(self, "given", (classifier, splits))
        return classifier

    def fit(self, classifier: Classifier, splits: Splits) -> Keeps:
        assert not hasattr(splits, "games") and not hasattr(splits, "resources")
        return Keeps((*self.given, self, classifier, splits))

    def preparing(self, splits: Splits) -> int:
        return len(splits.train)


def test_nothing_that_a_defender_gets_leads_to_an_image_of_the_games(
    data: Dataset, classifier: Classifier
) -> None:
    (fitted,) = prepare(classifier, [Keeps()], data).defenders
    assert isinstance(fitted, Keeps)
    assert found_of(data.games, fitted.given) == []
    assert found_of(data.resources, fitted.given) == []
    for name in PARTS:
        part: Split = getattr(data, name)
        assert found_of(part, fitted.given) == part.index.tolist(), "the walk finds what is there"
        given: Split = getattr(fitted.given[-1], name)
        assert torch.equal(given.images, part.images) and torch.equal(given.labels, part.labels)


def test_the_labels_of_other_parts_do_not_hang_on(classifier: Classifier) -> None:
    """Splits whose labels are views, as a user's own may be."""
    x, y = torch.rand(12, *SHAPE), torch.arange(12) % 4
    parts = [Split(x, torch.arange(12)[cut], y[cut]) for cut in torch.arange(12).split(3) if len(cut)]
    views = [replace(part, labels=y[3 * n : 3 * n + 3]) for n, part in enumerate(parts)]
    own = OwnSplits.of(Dataset("own", tuple("abcd"), *views))
    for one in everything(own):
        if isinstance(one, Tensor) and one.dtype == torch.int64:
            assert one.untyped_storage().nbytes() == one.numel() * one.element_size()


@dataclass(frozen=True)
class Writes(Defender):
    """Writes into all that it is given."""

    def fit(self, classifier: Classifier, splits: Splits) -> Writes:
        for part in (splits.train, splits.calibration):
            for one in (part.labels, part.index, part.images, part.take(slice(0, 3)), part.source):
                if isinstance(one, Tensor):
                    one.zero_()
        if isinstance(source := splits.train.source, ImageFiles):
            source.names[:] = source.names[:1]  # type: ignore[index]
        return self

    def state(self) -> dict[str, Any]:
        return {}


def test_a_writer_changes_nothing_elsewhere(data: Dataset, classifier: Classifier) -> None:
    stack = prepare(classifier, [Keeps(), Writes(), Writes()], data)
    assert replace(data).sha == data.sha == replace(data, name="again").sha
    beside = stack.defenders[0]
    assert isinstance(beside, Keeps)
    given = beside.given[-1]
    assert isinstance(given, OwnSplits) and torch.equal(given.train.labels, data.train.labels)


def test_a_users_own_arrays_stay_as_they_are(classifier: Classifier) -> None:
    random = np.random.default_rng(0)
    x, y = random.random((6, *SHAPE), dtype=np.float32), np.arange(6) % 4
    before = x.copy(), y.copy()
    own = {"train": (x, y), "calibration": (torch.from_numpy(x), torch.from_numpy(y))}
    arena.evaluate(classifier, Writes(), images=x, labels=y, **own, cost=False)  # type: ignore[arg-type]
    arena.play(
        "random-search",
        Writes(),
        classifier=classifier,
        images=x,
        labels=y,
        threat={"epsilon": 0.1, "budget": 2},
        **own,  # type: ignore[arg-type]
    )
    assert np.array_equal(x, before[0]) and np.array_equal(y, before[1])


def test_an_environment_hands_over_no_games(tmp_path: Path, classifier: Classifier) -> None:
    data = in_bytes(tmp_path)
    setup = build_setup(classifier=classifier, defender=[Keeps(), Writes()], dataset=data, device="cpu")
    kept = setup.stack.defenders[0]
    assert isinstance(kept, Keeps) and found_of(data.games, kept.given) == []
    assert torch.equal(setup.split.labels, in_bytes(tmp_path).games.labels)


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_images_have_the_bits_and_strides_of_those_they_are_copies_of(form: torch.memory_format) -> None:
    x = torch.rand(9, *SHAPE).contiguous(memory_format=form)
    split = Split(x, torch.tensor([7, 2, 5, 1]), torch.arange(4))
    own = OwnSplits.of(Dataset("own", tuple("abcd"), split, split, split, split)).train
    for rows in (slice(0, 3), torch.tensor([3, 0])):
        assert torch.equal(own.take(rows), split.take(rows))
        assert own.take(rows).stride() == split.take(rows).stride()


def test_parts_of_one_data_set_can_be_added(data: Dataset) -> None:
    own = OwnSplits.of(data)
    both, wanted = own.train + own.calibration, data.train + data.calibration
    assert torch.equal(both.images, wanted.images) and torch.equal(both.labels, wanted.labels)


def test_a_part_that_is_missing_is_told_of_when_it_is_asked_for() -> None:
    own = OwnSplits.of(data_of(train=(np.zeros((2, *SHAPE), np.float32), [0, 1])))
    assert len(own.train) == 2
    with pytest.raises(ValueError, match=r"pass calibration=\(images, labels\)") as caught:
        _ = own.calibration
    assert not any(isinstance(one, Split) for one in everything(own.missing, caught.value.__cause__))


# The classifier


class Zeroes(Defender):
    def fit(self, classifier: Classifier, splits: Splits) -> Zeroes:
        for tensor in classifier.tensors().values():
            tensor.zero_()
        return self


class TrainsInPlace(Defender):
    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        for tensor in classifier.module.parameters():
            tensor.data.mul_(1.5)
        return classifier


@pytest.mark.parametrize(("kind", "method"), [(Zeroes, "fit"), (TrainsInPlace, "harden")])
def test_who_changes_the_weights_it_is_given_is_told_and_changes_nobody_elses(
    kind: type[Defender], method: str, classifier: Classifier
) -> None:
    place, x = tiny_world(0, "cpu"), torch.rand(5, *SHAPE)
    before, sha = classifier(x), Classifier.of(classifier, sample=x).sha
    with pytest.raises(DefenderError, match=rf"{kind.__name__}\.{method} changed the weights of the class"):
        prepare(classifier, [kind()], place)
    assert torch.equal(classifier(x), before)
    fresh = Classifier(classifier.module, shape=SHAPE, classes=4)
    assert classifier.sha == sha == fresh.sha


class Spoils(Defender):
    """Changes what no fingerprint shows."""

    def fit(self, classifier: Classifier, splits: Splits) -> Spoils:
        classifier.batch, classifier.classes, classifier.name = 1, 7, "mine"
        classifier.module.register_forward_hook(lambda *_: torch.zeros(0))
        classifier.module.train()
        return self


def test_a_classifier_is_lent_as_a_copy(classifier: Classifier) -> None:
    x, before = torch.rand(5, *SHAPE), vars(classifier).copy()
    answer = classifier(x)
    stack = prepare(classifier, [Spoils()], tiny_world(0, "cpu"))
    assert stack.base is classifier and stack.hardened == (None,)
    assert torch.equal(classifier(x), answer) and not classifier.module.training
    assert (classifier.batch, classifier.classes, classifier.name) == (256, 4, before["name"])


def test_what_hardens_into_the_given_one_is_not_hardened(data: Dataset, classifier: Classifier) -> None:
    stack = prepare(classifier, [Keeps(), Keeps()], data)
    assert stack.base is classifier and stack.hardened == (None, None)
    lent = [one for d in stack.defenders for one in vars(d)["given"] if isinstance(one, Classifier)]
    assert classifier not in lent and lent[0].sha == classifier.sha
    assert len({id(one) for one in lent}) == 1, "the weights are held twice, not once for each defender"


def test_a_function_and_a_network_that_cannot_be_copied_are_lent_themselves(data: Dataset) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 4)).eval().requires_grad_(False)

    def ask(x: Tensor) -> Tensor:
        return x.flatten(1)[:, :4]

    sample = torch.rand(2, *SHAPE)
    served = Classifier.of(ask, sample=sample)
    (kept,) = prepare(served, [Keeps()], data).defenders
    assert vars(kept)["given"][0].module is served.module and vars(kept)["given"][0] is not served
    net.lock = threading.Lock()  # type: ignore[assignment]
    locked = Classifier(net, shape=SHAPE, classes=4)
    (kept,) = prepare(locked, [Keeps()], data).defenders
    assert vars(kept)["given"][0].module is net
    with pytest.raises(DefenderError, match=r"Zeroes\.fit changed the weights"):
        prepare(locked, [Zeroes()], data)


@dataclass(frozen=True)
class Poisons(Defender):
    """Zeroes the weights of what it is restored with, and of what it hardened, once it is read back."""

    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        return classifier.with_tensors(classifier.tensors())

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any], classifier: Classifier) -> Poisons:
        for tensor in classifier.tensors().values():
            tensor.zero_()
        return self

    def rebuild(self, classifier: Classifier, tensors: Mapping[str, Tensor]) -> Classifier:
        own = classifier.with_tensors(tensors)
        self.restore({}, classifier)
        return own


def test_what_is_read_back_is_lent_a_copy_too(data: Dataset, classifier: Classifier) -> None:
    x = torch.rand(5, *SHAPE)
    before = classifier(x)
    again = read(written(prepare(classifier, [Poisons()], data)), classifier, [Poisons()])
    assert torch.equal(classifier(x), before) and torch.equal(again.base(x), before)


def test_a_function_is_not_paid_twice_for_what_it_answered(data: Dataset) -> None:
    asked: list[int] = []

    def ask(x: Tensor) -> Tensor:
        asked.append(len(x))
        return x.flatten(1)[:, :4]

    x = torch.rand(5, *SHAPE)
    classifier = Classifier.of(ask, sample=x)
    with asking("verdicts"):
        classifier(x)
    before = sum(asked)
    (kept,) = prepare(classifier, [Watches()], data).defenders
    with asking("verdicts"):
        assert torch.equal(vars(kept)["given"][-1](x), classifier(x))
    assert sum(asked) == before


class Watches(Defender):
    """Keeps the classifier, and asks it nothing while it is fitted."""

    def fit(self, classifier: Classifier, splits: Splits) -> Watches:
        fitted = Watches()
        vars(fitted)["given"] = (classifier,)
        return fitted


class Fails(Defender):
    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        _ = splits.train
        raise GeneratorExit


def test_a_failure_is_the_defenders_and_a_missing_part_the_callers(classifier: Classifier) -> None:
    with pytest.raises(DefenderError, match=r"Fails\.harden failed with GeneratorExit"):
        prepare(classifier, [Fails()], tiny_world(0, "cpu"))
    with pytest.raises(ValueError, match=r"^this defender prepares itself on data: pass train="):
        prepare(classifier, [Fails()], data_of())


class Pretends(Defender):
    def fit(self, classifier: Classifier, splits: Splits) -> Pretends:
        raise MissingPart("nothing is missing")


def test_who_pretends_that_a_part_is_missing_fails_alone(classifier: Classifier) -> None:
    with pytest.raises(DefenderError, match=r"Pretends\.fit failed with MissingPart"):
        prepare(classifier, [Pretends()], tiny_world(0, "cpu"))


def test_own_splits_are_frozen(data: Dataset) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        OwnSplits.of(data).parts = {}  # type: ignore[misc]


class Picky(Defender):
    """Says `said` of all images."""

    def __init__(self, said: object) -> None:
        self.said = said

    def unsuited(self, shape: tuple[int, ...]) -> Any:
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("grey images have no hue", "^grey images have no hue$"),
        (True, "^Picky.unsuited must return a sentence, or None; found bool$"),
        (KeyError("x"), "^Picky.unsuited failed with KeyError"),
    ],
)
def test_images_that_one_cannot_defend_are_told_before_any_is_prepared(
    classifier: Classifier, said: object, told: str
) -> None:
    place, fitted = tiny_world(1, "cpu"), list[int]()

    class Fits(Defender):
        def fit(self, classifier: Classifier, splits: Splits) -> Any:
            fitted.append(1)
            return self

    with pytest.raises(DefenderError, match=told):
        prepare(place.classifier, [Picky(said), Fits()], place)
    assert not fitted
    assert prepare(classifier, [Picky(None)], place).defenders
