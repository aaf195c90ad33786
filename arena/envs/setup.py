"""What the games of an environment are played on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from arena.classifiers import Classifier, ClassifierSpec, load_classifier
from arena.classifiers.devices import resolve_device, sized
from arena.datasets import Dataset, DatasetSpec, Split, load_dataset
from arena.datasets.own_arrays import read_split
from arena.envs.apart import Apart
from arena.game.stack import Stack, prepare
from arena.messages import fault
from arena.modes import own_modes
from arena.players import Defender
from arena.players.registry import Spec, build_stack
from arena.rules.geometry import quantise
from arena.rules.outcome import labels_of
from arena.rules.threat import Threat, parse_threat

Told = TypeVar("Told", bound=BaseModel)
DEFAULT_THREAT = Threat(norm="linf", epsilon=0.125, budget=100, feedback="logits", objective="first")
"""The rules where none are given; on the digits, epsilon is two of their 16 grey levels."""


class EnvOptions(TypedDict, total=False):
    """What to play on; all may be left out.

    Attributes:
        classifier: a Classifier, or a module or function of images [n,C,H,W] -> logits [n,K], or what a
            scenario file says of one; as there, no function that a text names is called. Default: the digits
            network that comes with the arena.
        defender: a Defender or its class, its name, a table with name and parameters, or a sequence of these:
            a stack, outermost first. Default: no defense.
        dataset: a Dataset, or what a scenario file says of one: its `games` are played, its `train` and
            `calibration` prepare the defender. Default: the digits, where no `images` are given.
        images, labels: [N,C,H,W] float in [0,1] and [N], arrays or tensors, to be played instead.
        threat: the rules, a Threat or its table; see DEFAULT_THREAT. Their `knowledge` and `resources` are
            nothing to an environment, which serves queries only.
        device: where the classifier and the images live; "auto" is CUDA, else MPS, else the CPU.
        batch: rows per forward pass.
    """

    classifier: nn.Module | Classifier | Callable[[Tensor], Tensor] | Mapping[str, Any] | str | None
    defender: Spec | Sequence[Spec]
    dataset: Dataset | Mapping[str, Any] | str | None
    images: Any
    labels: Any
    threat: Threat | Mapping[str, Any]
    device: str | torch.device
    batch: int | None


class EnvSetup:
    """A defended classifier, the rules, and the images to deal.

    Attributes:
        stack: the prepared defenders around the classifier.
        split: the images, [N] of them.
        right: [N] int8 on the host: the classifier is right (1) or wrong (0) on them, or not asked yet (-1).
    """

    def __init__(self, stack: Stack, split: Split, threat: Threat) -> None:
        self.stack, self.split, self.threat = stack, split, threat
        self.device = stack.base.device
        self.shape, self.classes = stack.base.shape, stack.base.classes
        self.right = torch.full((len(split),), -1, dtype=torch.int8)

    def are_right(self, rows: Tensor) -> Tensor:
        """[n] bool: whether the classifier is right on the images at `rows` [n]; each is asked once."""
        unknown = rows[self.right[rows] < 0]
        if len(unknown):
            x = quantise(self.split.take(unknown).to(self.device), self.threat.quantisation)
            right = labels_of(self.stack.base(x)).cpu() == self.split.labels[unknown]
            self.right[unknown] = right.to(torch.int8)
        return self.right[rows] > 0


@own_modes()
def build_setup(
    *,
    classifier: nn.Module | Classifier | Callable[[Tensor], Tensor] | Mapping[str, Any] | str | None = None,
    defender: Spec | Sequence[Spec] = "none",
    dataset: Dataset | Mapping[str, Any] | str | None = None,
    images: Any = None,
    labels: Any = None,
    threat: Threat | Mapping[str, Any] = DEFAULT_THREAT,
    device: str | torch.device = "auto",
    batch: int | None = None,
) -> EnvSetup:
    """A setup from its options (`EnvOptions`).

    Raises:
        ValueError: if they do not fit together, with what is wrong.
    """
    where = resolve_device(str(device))
    if batch is not None and batch < 1:
        raise ValueError(f"batch must be at least 1; found {batch}")
    rules = parse_threat(threat)
    if dataset is None and images is None:
        dataset = "digits"
    data = (
        dataset if isinstance(dataset, Dataset | None) else load_dataset(_spec(DatasetSpec, "name", dataset))
    )
    split = data.games if data is not None and images is None else _own(images, labels)
    base = _classifier(classifier, data, split, where, batch)
    if (top := int(split.labels.max())) >= base.classes:
        raise ValueError(f"labels go up to {top}; classifier {base.name!r} answers {base.classes} classes")
    stack = prepare(base, build_stack(defender or "none"), _NoSplits() if data is None else data)
    forgetful = tuple(Apart(d) if _keeps_games(d) else d for d in stack.defenders)
    return EnvSetup(replace(stack, defenders=forgetful), split, rules)


def _keeps_games(defender: Defender) -> bool:
    """Whether a defender remembers games and does not say how to forget one."""
    return defender.memory in ("game", "account") and type(defender).forget is Defender.forget


def _classifier(
    classifier: Any, data: Dataset | None, split: Split, device: torch.device, batch: int | None
) -> Classifier:
    sample = split.take(slice(0, 1))
    if classifier is None or isinstance(classifier, str | Mapping):
        if data is None:
            raise ValueError("images of your own need a classifier of your own, or the dataset of this one")
        given = {"network": "digits-cnn"} if classifier is None else classifier
        classifier = load_classifier(_spec(ClassifierSpec, "network", given), data, device)
    base = Classifier.of(classifier, sample=sample, device=device)
    if not isinstance(classifier, Classifier):
        for remark in base.remarks:
            warnings.warn(remark, stacklevel=2)
    return sized(base, batch)


def _spec(model: type[Told], key: str, given: Mapping[str, Any] | str) -> Told:
    """What is named, or said in a table as in a scenario file; ValueError says what is wrong with it."""
    try:
        return model.model_validate({key: given} if isinstance(given, str) else given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, (model.__name__, *first["loc"])))
        raise ValueError(f"{where}: {fault(dict(first), model.model_fields)}") from error


def _own(images: Any, labels: Any) -> Split:
    """Images and labels of the caller's own, copied to the host."""
    own = read_split(images, labels)
    return Split(own.images.to("cpu", copy=True), own.index, own.labels.to("cpu", copy=True))


@dataclass(frozen=True)
class _NoSplits:
    """Stands where a defender would find data to prepare itself on."""

    @property
    def train(self) -> Split:
        raise ValueError("this defender prepares itself on data: give the environment a dataset")

    calibration = train
