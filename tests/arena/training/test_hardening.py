"""Networks of given classifiers trained, kept, and found again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from arena.classifiers import Classifier
from arena.classifiers.reading import Reading
from arena.datasets import Dataset
from arena.interruptions import Interrupted, heeding
from arena.progress import Work, hearing
from arena.training import (
    Checkpoint,
    HardeningJob,
    Recipe,
    TrainingError,
    hardening,
    in_form,
    trained_in,
    with_weights,
)
from arena.training.objectives import GaussianNoise, Objective, PGDTraining, TradesTraining

OBJECTIVES: dict[str, Objective] = {
    "pgd": PGDTraining(epsilon=0.1, step=0.05, steps=2),
    "trades": TradesTraining(epsilon=0.1, step=0.05, steps=2),
    "gaussian-noise": GaussianNoise(sigma=0.1),
}


class Net(nn.Sequential):
    """A tiny network with BatchNorm and dropout, for digits."""

    def __init__(self) -> None:
        hidden = (nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 10))
        super().__init__(nn.Flatten(), *hidden)


def classifier(seed: int = 0) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classifier(Net(), shape=(1, 8, 8), classes=10, name="net")


def job(data: Dataset, kind: str = "gaussian-noise", **changes: Any) -> HardeningJob:
    recipe = Recipe(objective=OBJECTIVES[kind], rate=0.05, momentum=0.9, batch=200, epochs=2)
    return HardeningJob(classifier(), data, recipe, **changes)


def same(one: Classifier, other: Classifier) -> bool:
    ours, theirs = one.tensors(), other.tensors()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


class Ear:
    def __init__(self) -> None:
        self.works: list[str] = []
        self.remarks: list[str] = []

    def working(self, work: Work | None) -> None:
        self.works.append(str(work))

    def remark(self, sentence: str) -> None:
        self.remarks.append(sentence)


@pytest.fixture
def ear() -> Iterator[Ear]:
    found = Ear()
    with hearing(found):
        yield found


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry for each training that is begun."""
    begun: list[int] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        begun.append(1)
        return train(*args, **kwargs)

    train = hardening.train
    monkeypatch.setattr(hardening, "train", counted)
    return begun


def test_a_training_is_done_once_and_read_back_to_the_bit(
    data: Dataset, tmp_path: Path, trainings: list[int]
) -> None:
    first, given = trained_in(job(data), tmp_path), classifier()
    assert same(trained_in(job(data), tmp_path), first) and len(trainings) == 1
    assert not same(first, given) and (first.name, first.shape, first.classes) == ("net", (1, 8, 8), 10)
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]
    for other in (job(data, seed=1), job(data, start="scratch"), job(data, "pgd")):
        assert not same(trained_in(other, tmp_path), first)
    assert len(trainings) == 4
    assert same(job(data).made(given.tensors()), given)


def test_its_cost_is_told_before_it_begins_and_its_progress_meanwhile(
    data: Dataset, tmp_path: Path, ear: Ear
) -> None:
    trained_in(job(data, "trades"), tmp_path)
    assert ear.works[0].startswith(
        "training: 2 epochs of 800 images, each 5 times through the network a step: 8,000 images in all, "
        "about"
    )
    first = [text for text in ear.works if text.endswith("left, step, 1 of 8")]
    assert len(first) == 1 and first[0].startswith("epoch 1 of 2, about")
    assert any(text.startswith("epoch 2 of 2, loss ") for text in ear.works)
    told = len(ear.works)
    trained_in(job(data, "trades"), tmp_path)
    assert len(ear.works) == told


def test_a_long_training_is_remarked(
    data: Dataset, tmp_path: Path, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardening._Told, "LONG", 0.0)
    trained_in(job(data), tmp_path)
    assert len(ear.remarks) == 1 and ear.remarks[0].startswith("training: 2 epochs of 800 images, each once")


class Killed(Exception):
    pass


@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("after", [3, 6])
def test_an_interrupted_training_reaches_the_same_bits(
    data: Dataset, tmp_path: Path, kind: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained_in(job(data, kind), tmp_path / "whole")
    stepped, steps = hardening._Told.stepped, list[int]()

    def killing(self: Any, rate: float) -> None:
        steps.append(1)
        if len(steps) == after + 1:
            raise Killed
        stepped(self, rate)

    monkeypatch.setattr(hardening._Told, "stepped", killing)
    with pytest.raises(Killed):
        trained_in(job(data, kind), tmp_path / "cut", every=0)
    assert [path.suffix for path in (tmp_path / "cut").iterdir()] == [".checkpoint"]
    monkeypatch.setattr(hardening._Told, "stepped", stepped)
    torch.manual_seed(after)
    assert same(trained_in(job(data, kind), tmp_path / "cut"), whole)


CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_hardening import job, hardening, trained_in
from arena.datasets import load_dataset
stepped = hardening._Told.stepped
def slow(self, rate):
    stepped(self, rate)
    print(self.done, flush=True)
    time.sleep(0.2)
hardening._Told.stepped = slow
trained_in(job(load_dataset("digits")), Path({folder!r}), every=0)
print("done", flush=True)
"""


def child(folder: Path) -> subprocess.Popen[str]:
    code = CHILD.format(tests=str(Path(__file__).parent), folder=str(folder))
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_it_goes_on_after_a_kill(data: Dataset, tmp_path: Path, ear: Ear) -> None:
    whole = trained_in(job(data), tmp_path / "whole")
    process = child(tmp_path / "cut")
    assert process.stdout is not None
    for _ in range(4):  # the checkpoint of the third step is written before the fourth
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    gone_on = trained_in(job(data), tmp_path / "cut")
    assert same(gone_on, whole)
    assert any(text.startswith("going on after step ") for text in ear.works)
    assert [path.suffix for path in (tmp_path / "cut").iterdir()] == [".safetensors"]


@pytest.mark.slow
def test_of_two_processes_one_trains_and_the_other_waits(
    data: Dataset, tmp_path: Path, ear: Ear, trainings: list[int]
) -> None:
    process = child(tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    ours = trained_in(job(data), tmp_path)
    assert process.wait() == 0 and not trainings
    assert "waiting for another process that trains the same" in ear.works
    assert same(ours, trained_in(job(data), tmp_path / "alone"))


def test_a_signal_keeps_the_steps_that_are_done(
    data: Dataset, tmp_path: Path, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained_in(job(data), tmp_path / "whole")
    stepped = hardening._Told.stepped

    def interrupted(self: Any, rate: float) -> None:
        stepped(self, rate)
        if self.done == 5:
            signal.raise_signal(signal.SIGINT)

    with heeding(), monkeypatch.context() as patch:
        patch.setattr(hardening._Told, "stepped", interrupted)
        with pytest.raises(Interrupted):
            trained_in(job(data), tmp_path / "cut")
    assert "goes on from" in ear.remarks[-1]
    assert same(trained_in(job(data), tmp_path / "cut"), whole)
    assert "going on after step 5, 5 of 8" in ear.works


def test_a_cache_that_cannot_be_written_loses_nothing_else(data: Dataset, tmp_path: Path, ear: Ear) -> None:
    (tmp_path / "file").write_text("in the way")
    found = trained_in(job(data), tmp_path / "file" / "trained")
    assert same(found, trained_in(job(data), tmp_path / "good"))
    assert len(ear.remarks) == 1 and "could not be kept" in ear.remarks[0]


def test_a_full_disk_is_told_once(
    data: Dataset, tmp_path: Path, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained_in(job(data), tmp_path / "good")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("arena.training.checkpoint.write_whole", full)
    monkeypatch.setattr(hardening, "write_whole", full)
    assert same(trained_in(job(data), tmp_path / "full", every=0), whole)
    assert [remark.partition(":")[0] for remark in ear.remarks] == [
        "no checkpoint could be written",
        ear.remarks[1].partition(":")[0],
    ]
    assert ear.remarks[1].endswith("No space left on device")


@pytest.mark.parametrize("damage", ["cut", "changed", "other"])
def test_a_damaged_file_is_trained_again(
    data: Dataset, tmp_path: Path, ear: Ear, trainings: list[int], damage: str
) -> None:
    whole = trained_in(job(data), tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-5])
    elif damage == "changed":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        trained_in(job(data, seed=1), tmp_path / "other")
        (other,) = (tmp_path / "other").glob("*.safetensors")
        path.write_bytes(other.read_bytes())
    begun = len(trainings)
    assert same(trained_in(job(data), tmp_path), whole) and len(trainings) == begun + 1
    assert "is damaged or was changed" in ear.remarks[0]
    assert same(trained_in(job(data), tmp_path), whole) and len(trainings) == begun + 1


def test_a_damaged_checkpoint_starts_over(data: Dataset, tmp_path: Path, ear: Ear) -> None:
    whole = trained_in(job(data), tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    path.unlink()
    path.with_suffix(".checkpoint").write_bytes(b"arena checkpoint 1\nrubbish")
    assert same(trained_in(job(data), tmp_path), whole)
    Checkpoint(path.with_suffix(".checkpoint"), job(data).identity).write({"step": 3})
    path.unlink()
    assert same(trained_in(job(data), tmp_path), whole)
    assert [r for r in ear.remarks if "cannot be used" in r] == ear.remarks and len(ear.remarks) == 2


class Scaled(nn.Module):
    """A network whose logits are multiplied by a parameter that does not decay."""

    undecayed: ClassVar[tuple[str, ...]] = ("factor",)

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.factor = network, nn.Parameter(torch.tensor(2.0))

    def reset_parameters(self) -> None:
        nn.init.constant_(self.factor, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x) * self.factor
        return logits


@dataclass(frozen=True)
class Form:
    def __call__(self, module: nn.Module) -> nn.Module:
        return Scaled(module)


def test_another_form_is_trained_and_made_again(data: Dataset, tmp_path: Path) -> None:
    plain, formed = job(data), job(data, form=Form(), start="scratch")
    trained = trained_in(formed, tmp_path)
    assert isinstance(trained.module, Scaled) and float(trained.module.factor) != 2
    again = in_form(classifier(), Form()).with_tensors(trained.tensors())
    x = data.games.images[:20]
    assert same(again, trained) and torch.equal(again(x), trained(x))
    assert torch.allclose(in_form(classifier(), Form())(x), 2 * classifier()(x), atol=1e-5)
    assert plain.identity["form"] == "" and formed.identity["form"].endswith("test_hardening:Form()")


def test_how_scores_are_read_is_part_of_what_is_trained(data: Dataset) -> None:
    own, read = classifier(), classifier()
    read.reading = Reading(-100.0, True, "they are probabilities")
    parts = data, Recipe(rate=0.1, batch=200, epochs=1)
    identities = [HardeningJob(one, *parts).identity for one in (own, read)]
    assert own.sha == read.sha and identities[0] != identities[1]


def test_what_is_named_undecayed_does_not_decay(data: Dataset) -> None:
    recipe = Recipe(objective=OBJECTIVES["pgd"], rate=0.1, batch=200, epochs=1, weight_decay=0.5)
    from arena.training.schedule import optimiser

    groups = optimiser(recipe, Scaled(Net())).param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]
    assert [tuple(p.shape) for p in groups[1]["params"]] == [()]


def test_a_parameter_that_cannot_be_drawn_anew_is_named(data: Dataset, tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network, self.gain = network, nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.network(x) * self.gain
            return logits

    odd = Classifier(Fixed(Net()), shape=(1, 8, 8), classes=10)
    recipe = job(data).recipe
    with pytest.raises(TrainingError, match=r"gain of the network itself \(Fixed\) cannot be drawn anew"):
        trained_in(HardeningJob(odd, data, recipe, start="scratch"), tmp_path)
    trained_in(HardeningJob(odd, data, recipe), tmp_path)


class Adaptive(Net):
    untrainable: ClassVar[str] = "adapts itself to each query"


class Cut(Net):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = super().forward(x)
        return logits


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :10]


def function(x: Tensor) -> Tensor:
    return x.flatten(1)[:, :10]


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Adaptive(), "cannot be trained: its Adaptive adapts itself to each query"),
        (Cut(), "gives no gradients (it leaves torch, or computes within no_grad), so that it cannot"),
        (Mean(), "has no parameters to train"),
        (function, "is a function that answers images; only a network in torch"),
    ],
    ids=["adaptive", "cut", "mean", "function"],
)
def test_what_cannot_be_trained_is_refused(data: Dataset, module: Any, said: str) -> None:
    sample = data.games.images[:2]
    found = Classifier.of(module, sample=sample) if callable(module) else module
    with pytest.raises(TrainingError) as caught:
        HardeningJob(found, data, job(data).recipe)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_probabilities_are_read_as_logits(data: Dataset, tmp_path: Path) -> None:
    """A network that ends in a softmax is trained as the one without it is."""
    probable = Classifier.of(nn.Sequential(classifier().module, nn.Softmax(1)), sample=data.games.images[:5])
    assert probable.reading is not None
    recipe = job(data).recipe
    trained = trained_in(HardeningJob(probable, data, recipe), tmp_path)
    plain = trained_in(job(data), tmp_path)
    x = data.games.images
    assert torch.allclose(trained(x).log_softmax(1), plain(x).log_softmax(1), atol=1e-3)


def test_weights_made_elsewhere(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = classifier(5)
    state: Mapping[str, Tensor] = other.module.state_dict()
    torch.save({"state_dict": dict(state)}, tmp_path / "own.pth")
    assert same(with_weights(classifier(), str(tmp_path / "own.pth")), other)
    monkeypatch.setenv("ARENA_DATA", str(tmp_path))
    assert same(with_weights(classifier(), "own.pth"), other)
    kept = trained_in(job(data), tmp_path / "trained")
    (path,) = (tmp_path / "trained").iterdir()
    assert same(with_weights(classifier(), str(path)), kept)
    formed = in_form(other, Form())
    torch.save(formed.module.state_dict(), tmp_path / "formed.pth")
    assert same(with_weights(classifier(), "formed.pth", Form()), formed)
    with pytest.raises(ValueError, match=r"formed.pth do not fit: missing: .*; unexpected: factor"):
        with_weights(classifier(), "formed.pth")
    with pytest.raises(FileNotFoundError, match=r"no nothing.pth or weights/nothing.pth in any of"):
        with_weights(classifier(), "nothing.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ValueError, match=r"weights file .*text.pth"):
        with_weights(classifier(), "text.pth")
