"""Classifiers by name: one entry for all the ways to load one."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from arena.classifiers.building import Built, build
from arena.classifiers.classifier import Classifier
from arena.classifiers.errors import ClassifierError, ServiceError
from arena.classifiers.files import find_below
from arena.classifiers.networks import NETWORKS, Normalised
from arena.classifiers.spec import ClassifierSpec
from arena.classifiers.weights import fit_weights, normalisation, read_weights
from arena.datasets.dataset import Dataset
from arena.messages import one_line
from arena.modes import own_modes

PACKAGED = {path.stem: path for path in sorted((Path(__file__).parent / "weights").glob("*.safetensors"))}
DEFAULT_WEIGHTS = {"digits-cnn": "digits_cnn"}


@own_modes()
def load_classifier(
    spec: ClassifierSpec,
    dataset: Dataset,
    device: str | torch.device = "cpu",
    batch: int = 256,
    data_dirs: Iterable[Path] = (),
    trusted: Collection[str] = (),
) -> Classifier:
    """The classifier of `spec` on images like those of `dataset`; named after the network.

    Its `card` holds the metadata of the file it came from, its `remarks` what a user should know about that
    file. `data_dirs` (a scenario's folder, `--data`) come first in the search path for weights and programs.
    `trusted` are the functions, as "module:function", that may be called to make a network (`--trust`): the
    spec may be a stranger's. Who writes a spec in Python can as well call the function and use what it gives.
    Raises ClassifierError if the network is unknown or fails, if weights, network and data do not fit, or if
    the SHA is not the spec's; and FileNotFoundError, which names the places searched, if a file is missing.
    """
    data_dirs = list(data_dirs)
    built = _weighted(spec, build(spec, torch.empty(0, device=device).device, data_dirs, trusted), data_dirs)
    _check_fit(spec, built, dataset)
    module = _normalised(spec, built, dataset.shape)
    try:
        classifier = Classifier.of(
            module,
            sample=dataset.games.take(slice(0, 1)),
            device=device,
            batch=batch,
            name=built.name,
            precision=spec.precision,
            compile=spec.compile,
        )
    except ServiceError:
        raise
    except ValueError as error:
        made = _made_for(spec, dataset.shape)
        raise ClassifierError(f'data set "{dataset.name}": {error}{made}') from error
    if classifier.classes < dataset.classes:
        raise ClassifierError(
            f'network "{spec.network}" answers {classifier.classes} classes, too few for data set '
            f'"{dataset.name}" with {dataset.classes}'
        )
    if spec.sha and not classifier.sha.startswith(spec.sha):
        raise ClassifierError(
            f'network "{spec.network}" is not the one that was pinned: found sha {classifier.sha}, '
            f"wanted {spec.sha}"
        )
    other = [remark] if (remark := trained_elsewhere(built.card, dataset)) else []
    classifier.card = dict(built.card)
    classifier.remarks = (*built.remarks, *other, *classifier.remarks)
    return classifier


def trained_elsewhere(card: Mapping[str, str], dataset: Dataset) -> str:
    """A sentence if a card reports training on other data, or on other splits of it, than `dataset`; empty if
    it reports this one, or lacks `dataset` or `dataset_sha`."""
    if not {"dataset", "dataset_sha"} <= card.keys() or card["dataset_sha"] == dataset.sha:
        return ""
    name, sha = one_line(card["dataset"]), one_line(card["dataset_sha"])
    return (
        f'the weights were trained on data set "{name}" with sha {sha[:12]}, not on this one (sha '
        f"{dataset.sha[:12]}): images of the games may have been trained on"
    )


def _weighted(spec: ClassifierSpec, built: Built, folders: Iterable[Path]) -> Built:
    """The network with the weights of its file, if one is named."""
    named = spec.weights or DEFAULT_WEIGHTS.get(spec.network)
    if named is None:
        if not built.complete:
            raise ClassifierError(f'network "{spec.network}" needs weights: {_advice(spec.network)}')
        return built
    if built.fixed:
        raise ClassifierError(f'network "{spec.network}" {built.fixed}: it takes no weights')
    path = PACKAGED.get(named) or _find(named, folders)
    weights = read_weights(path)
    module = copy.deepcopy(built.module)  # several classifiers may share a user's module
    fit_weights(module, weights.tensors, f"weights {path} for {spec.network}")
    stated = normalisation(weights.card, f"weights {path}")
    return replace(
        built,
        module=module,
        normalisation=stated or built.normalisation,
        card=weights.card,
        remarks=built.remarks + weights.remarks,
    )


def _advice(network: str) -> str:
    package = network.partition(":")[0]
    published = {
        "timm": ", or params = { pretrained = true }",
        "torchvision": ', or params = { weights = "DEFAULT" }',
    }
    return f"a safetensors file{published.get(package, '')}"


def _find(weights: str, folders: Iterable[Path]) -> Path:
    advice = f"put the file there, give its whole path, or name a packaged one ({', '.join(PACKAGED)})"
    return find_below("weights", weights, folders, advice)


def _check_fit(spec: ClassifierSpec, built: Built, dataset: Dataset) -> None:
    if any(want not in (None, axis) for want, axis in zip(built.takes, dataset.shape, strict=True)):
        wanted = ",".join("*" if axis is None else str(axis) for axis in built.takes)
        raise ClassifierError(
            f'network "{spec.network}" takes images [{wanted}]; data set "{dataset.name}" has images '
            f"{list(dataset.shape)}"
        )
    if not built.in_torch and (spec.compile or spec.precision != "float32"):
        found = "compile = true" if spec.compile else f'precision = "{spec.precision}"'
        raise ClassifierError(f'network "{spec.network}" does not run in torch: {found} does nothing there')


def _made_for(spec: ClassifierSpec, shape: tuple[int, ...]) -> str:
    """The end of a sentence on images [C,H,W] that do not suit a network of the table."""
    known = NETWORKS.get(spec.network)
    return f"; the network is made for {list(known.shape)}" if known and known.shape != shape else ""


def _normalised(spec: ClassifierSpec, built: Built, shape: tuple[int, int, int]) -> nn.Module:
    """The network behind the input normalisation: of the spec, else of its weights, else its own."""
    if spec.mean is not None and spec.std is not None:
        mean, std = spec.mean, spec.std
    elif built.normalisation is not None:
        mean, std = built.normalisation
    else:
        return built.module
    if not any(mean) and set(std) == {1.0}:
        return built.module
    n, channels = max(len(mean), len(std)), shape[0]
    if n not in (1, channels):
        raise ClassifierError(
            f'network "{spec.network}": mean {list(mean)} and std {list(std)} must hold one value, or one '
            f"for each of the {channels} channels of images {list(shape)}{_made_for(spec, shape)}"
        )
    try:
        return Normalised(
            built.module, mean * n if len(mean) == 1 else mean, std * n if len(std) == 1 else std
        )
    except ValueError as error:
        raise ClassifierError(f'network "{spec.network}": {error}') from error
