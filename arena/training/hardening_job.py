"""The training of a given classifier's network, in its form or another one."""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from arena.classifiers import Classifier
from arena.classifiers.devices import arithmetic_of
from arena.classifiers.errors import ClassifierError
from arena.classifiers.reading import Reading
from arena.classifiers.served import served_in
from arena.datasets import Split
from arena.messages import first_line, one_line
from arena.provenance import source_closure
from arena.training.errors import TrainingError
from arena.training.job import Parts
from arena.training.recipe import Recipe

Start = Literal["weights", "scratch"]
Form = Callable[[nn.Module], nn.Module]
"""Makes the network to train of a copy of the given one, which it may take apart. An instance of a frozen
dataclass, or a function of a module: its name and parameters stand for it."""
TRAINED_BY = "arena.training.loop", "arena.training.hardening_job"
"""What computes trained weights: its source, and that of all it imports, is part of every identity."""


@dataclass(frozen=True, eq=False)
class HardeningJob:
    """A classifier's network, a data set's parts, a recipe and a seed.

    Attributes:
        classifier: its network is trained as a whole, its input normalisation inside and unchanged.
        start: from its weights, or from new ones, as each layer's `reset_parameters` draws them.
        form: changes the network first; None: it stays.
        taught_by: whose answers are learned, for an objective that needs a teacher.

    Raises:
        TrainingError: if the network cannot be trained, or not from that start.
    """

    classifier: Classifier
    data: Parts
    recipe: Recipe
    seed: int = 0
    start: Start = "weights"
    form: Form | None = None
    taught_by: Classifier | None = None

    def __post_init__(self) -> None:
        if self.start not in ("weights", "scratch"):
            raise TrainingError(f'start must be "weights" or "scratch"; found {self.start!r}')
        self.recipe.objective.check(self.taught_by)
        self._check_trainable()

    @property
    def device(self) -> torch.device:
        return self.classifier.device

    @cached_property
    def teacher(self) -> nn.Module | None:
        """The teacher's network, images in [0,1] -> logits."""
        return None if self.taught_by is None else _read(self.taught_by.module, self.taught_by.reading)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What distinguishes this training from others, as JSON values."""
        form = () if self.form is None else (getattr(self.form, "__module__", type(self.form).__module__),)
        code = source_closure([*TRAINED_BY, *form])
        return {
            "classifier": self.classifier.sha,
            "reading": repr(self.classifier.reading),
            "train": content_of(self.data.train),
            "recipe": self.recipe.model_dump(mode="json"),
            "seed": self.seed,
            "start": self.start,
            "form": "" if self.form is None else in_words(self.form),
            "teacher": "" if self.taught_by is None else f"{self.taught_by.sha} {self.taught_by.reading!r}",
            "code": code.sha,
            "packages": dict(code.distributions),
            "torch": torch.__version__,
            "arithmetic": arithmetic_of(self.device),
            "threads": torch.get_num_threads() if self.device.type == "cpu" else 0,
        }

    def build(self) -> tuple[nn.Module, list[float], list[float]]:
        """The network to train, in training mode; its normalisation is inside."""
        network = copy.deepcopy(self.classifier.module)
        if self.form is not None:
            network = self.form(network)
        for parameter in network.parameters():
            parameter.requires_grad_(True)
        network = network.to(self.device)
        if self.start == "scratch":
            reset(network)
        return network.train(), [0.0], [1.0]

    def model(self, network: nn.Module, mean: list[float], std: list[float]) -> nn.Module:
        """Images in [0,1] -> logits, around such a network."""
        return _read(network, self.classifier.reading)

    def made(self, tensors: Mapping[str, Tensor]) -> Classifier:
        """The classifier with these weights, named as in `tensors_of` the trained network."""
        return in_form(self.classifier, self.form).with_tensors(tensors)

    def _check_trainable(self) -> None:
        who, module = f"classifier {self.classifier.name!r}", self.classifier.module
        if served_in(module) is not None:
            raise TrainingError(
                f"{who} is a function that answers images; only a network in torch, whose weights are at "
                f"hand, can be trained"
            )
        for layer in module.modules():
            if why := getattr(layer, "untrainable", ""):
                raise TrainingError(f"{who} cannot be trained: its {type(layer).__name__} {why}")
        if not any(True for _ in module.parameters()):
            raise TrainingError(f"{who} has no parameters to train")
        reason = "it leaves torch, or computes within no_grad"
        try:
            x = torch.full((2, *self.classifier.shape), 0.5, device=self.device)
            trained = copy.deepcopy(module)
            for parameter in trained.parameters():
                parameter.requires_grad_(True)
            with torch.inference_mode(False), torch.enable_grad():
                if trained.eval()(x.requires_grad_(True)).requires_grad:
                    return
        except ClassifierError:
            raise
        except Exception as error:  # foreign code: any exception may come
            reason = first_line(error)
        raise TrainingError(f"{who} gives no gradients ({reason}), so that it cannot be trained")


def in_form(classifier: Classifier, form: Form | None) -> Classifier:
    """`classifier` with its network, a copy, in another form and with the weights that the form gives it.

    A defender that hardens into a form rebuilds by `in_form(classifier, form).with_tensors(tensors)`.
    """
    if form is None:
        return classifier
    with torch.random.fork_rng(devices=[]):
        network = form(copy.deepcopy(classifier.module))
    made = Classifier(
        network,
        shape=classifier.shape,
        classes=classifier.classes,
        device=classifier.device,
        batch=classifier.batch,
        name=classifier.name,
        precision=classifier.precision,
        compile=classifier.compile,
    )
    made.reading = classifier.reading
    return made


class _Read(nn.Module):
    """A network whose scores are read as logits."""

    def __init__(self, network: nn.Module, reading: Reading) -> None:
        super().__init__()
        self.network, self.reading = network, reading

    def forward(self, x: Tensor) -> Tensor:
        return self.reading(self.network(x))


def _read(network: nn.Module, reading: Reading | None) -> nn.Module:
    return network if reading is None else _Read(network, reading)


def reset(network: nn.Module) -> None:
    """Draw all parameters anew from torch's global state, and set statistics back, layer by layer.

    Raises TrainingError if a layer with parameters of its own does not say how.
    """
    for name, layer in network.named_modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
        elif own := [key for key, _ in layer.named_parameters(recurse=False)]:
            where = name or "the network itself"
            raise TrainingError(
                f'start = "scratch": {own[0]} of {where} ({type(layer).__name__}) cannot be drawn anew: '
                f'the layer has no reset_parameters(); start = "weights" is allowed'
            )


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by name, as `Classifier.tensors` gives them."""
    every: Iterator[tuple[str, Tensor]] = itertools.chain(
        network.named_parameters(remove_duplicate=False), network.named_buffers(remove_duplicate=False)
    )
    return {name: tensor.detach() for name, tensor in every}


def sha_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def content_of(split: Split, piece: int = 1024) -> str:
    """SHA-256 over a split's images, as they are read, and its labels, in order."""
    digest = hashlib.sha256()
    for rows in torch.split(torch.arange(len(split)), piece):
        images = split.source[split.index[rows.to(split.index.device)]].cpu().contiguous()
        digest.update(f"{images.dtype} {list(images.shape)}\n".encode())
        digest.update(images.reshape(-1).view(torch.uint8).numpy().data)
    digest.update(split.labels.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def in_words(form: Form) -> str:
    """A form's name and parameters."""
    if is_dataclass(form):
        return one_line(f"{type(form).__module__}:{form!r}")
    return f"{form.__module__}:{form.__qualname__}"
