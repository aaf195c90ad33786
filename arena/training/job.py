"""What is to be trained, on what, and how."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from arena.classifiers.building import build
from arena.classifiers.networks import NETWORKS, Normalised
from arena.classifiers.spec import ClassifierSpec
from arena.datasets import Dataset, Split
from arena.messages import first_line
from arena.provenance import code_of, module_of
from arena.training.errors import TrainingError
from arena.training.recipe import Recipe

PIECE = 256
HOST = torch.device("cpu")


class Parts(Protocol):
    """What is trained on, and what is looked at meanwhile."""

    @property
    def train(self) -> Split: ...
    @property
    def calibration(self) -> Split: ...


class Job(Protocol):
    """What a training needs to know: a network, data, a recipe and a seed."""

    @property
    def data(self) -> Parts: ...
    @property
    def recipe(self) -> Recipe: ...
    @property
    def seed(self) -> int: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def teacher(self) -> nn.Module | None:
        """A frozen network in eval mode, images in [0,1] -> logits, on the device."""

    @property
    def identity(self) -> dict[str, Any]:
        """What distinguishes this training from others, as JSON values."""

    def build(self) -> tuple[nn.Module, list[float], list[float]]:
        """The network to train, in training mode on the device, made from torch's global state; and the mean
        and std of its input normalisation."""

    def model(self, network: nn.Module, mean: list[float], std: list[float]) -> nn.Module:
        """Images in [0,1] -> logits, around such a network."""


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """A network by name, a data set, a recipe and a seed.

    `params` are keyword arguments of the network; a network of the table also gets the data set's `classes`.
    `trusted` are the functions that may be called to make a network (`load_classifier`).
    """

    network: str
    data: Dataset
    recipe: Recipe
    seed: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)
    device: torch.device = HOST
    trusted: Collection[str] = ()

    def __post_init__(self) -> None:
        if self.recipe.precision != "float32" and self.device.type != "cuda":
            raise TrainingError(
                f'recipe: precision: found "{self.recipe.precision}" on {self.device}; float32 is allowed '
                f"there, the others on CUDA alone"
            )
        self.recipe.objective.check(self.teacher)

    @property
    def teacher(self) -> None:
        """Nobody: the labels are learned."""

    @property
    def identity(self) -> dict[str, Any]:
        """What distinguishes this training from others, as JSON values; with `code` if the network is a
        user's."""
        code = code_of(module_of(self.network))
        return {
            "network": self.network,
            "params": self.whole_params,
            "dataset": self.data.name,
            "dataset_sha": self.data.sha,
            "recipe": self.recipe.model_dump(mode="json"),
            "seed": self.seed,
            **({"code": code} if code else {}),
        }

    @property
    def whole_params(self) -> dict[str, Any]:
        """The network's keyword arguments, including the table's `classes`."""
        return ({"classes": self.data.classes} if self.network in NETWORKS else {}) | dict(self.params)

    def build(self) -> tuple[nn.Module, list[float], list[float]]:
        """The network, in training mode on the device, and the mean and std of its input normalisation.

        It is initialised from torch's global state, unless it loads weights of its own. Raises
        ClassifierError if it or one of its parameters is unknown, TrainingError if it cannot be trained,
        cannot take the data set's images or answers with another number of classes.
        """
        built = build(ClassifierSpec(network=self.network, params=self.whole_params), HOST, (), self.trusted)
        if built.fixed:
            raise TrainingError(f'network "{self.network}" cannot be trained: it {built.fixed}')
        network = copy.deepcopy(built.module).requires_grad_(True).to(self.device)
        self._check_fit(network)
        mean, std = built.normalisation or ((0.0,), (1.0,))
        if self.recipe.normalise == "train":
            mean, std = channel_statistics(self.data.train)
        return network.train(), list(mean), list(std)

    def model(self, network: nn.Module, mean: list[float], std: list[float]) -> nn.Module:
        """Images in [0,1] -> logits, around such a network."""
        return Normalised(network, mean, std).to(self.device)

    def _check_fit(self, network: nn.Module) -> None:
        what = f'network "{self.network}" does not fit data set "{self.data.name}"'
        shape, classes = list(self.data.shape), self.data.classes
        try:
            with torch.no_grad():
                logits = network.eval()(torch.zeros(2, *shape, device=self.device))
        except Exception as error:
            known = NETWORKS.get(self.network)
            made = f"; it is made for {list(known.shape)}" if known else ""
            raise TrainingError(f"{what} with images {shape}{made}: {first_line(error)}") from error
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if found != [2, classes]:
            raise TrainingError(
                f"{what}: it must answer 2 images with logits [2, {classes}], not {found}; --param sets what "
                f"the network takes"
            )
        if not any(True for _ in network.parameters()):
            raise TrainingError(f'network "{self.network}" has no parameters to train')


def channel_statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of each channel over all pixels of a split in [0,1], to four decimals; a constant
    channel's std is 1."""
    total = square = torch.zeros(())
    for rows in torch.split(torch.arange(len(split)), PIECE):
        x = split.take(rows).double().transpose(0, 1).flatten(1)
        total, square = total + x.sum(1), square + x.square().sum(1)
    n = len(split) * x.shape[1] / len(rows)
    mean = total / n
    std = (square / n - mean.square()).clamp(min=0).sqrt()
    return tuple(round(float(v), 4) for v in mean), tuple(round(float(v), 4) or 1.0 for v in std)
