"""Classifiers by name, with weights from safetensors files."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from arena.classifiers.classifier import Classifier
from arena.classifiers.networks import NETWORKS, Normalised
from arena.datasets.dataset import Dataset
from arena.datasets.folders import find
from arena.wording import near

PACKAGED = {path.stem: path for path in sorted((Path(__file__).parent / "weights").glob("*.safetensors"))}
DEFAULT_WEIGHTS = {"digits-cnn": "digits_cnn"}
WRAPPERS = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before every key


class ClassifierError(ValueError):
    """A classifier that cannot be made: one sentence on what was wrong, where, and what is allowed."""


class ClassifierSpec(BaseModel):
    """Which network, and with which weights.

    Attributes:
        network: one of `NETWORKS`, or "module:factory" for anything callable that returns a torch module.
        weights: a safetensors file, absolute or within the search path (in its folders themselves or in
            `weights` below them), or the name of a packaged file; a network of the table needs one, a
            factory may load its own.
        params: keyword arguments for the network or factory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str
    weights: str | None = None
    params: dict[str, Any] = {}

    def __hash__(self) -> int:
        return hash((self.network, self.weights, frozenset(self.params)))


def load_classifier(
    spec: ClassifierSpec,
    dataset: Dataset,
    device: str | torch.device = "cpu",
    batch: int = 256,
    data_dirs: Iterable[Path] = (),
) -> Classifier:
    """The classifier of `spec` on images like those of `dataset`; named after the network.

    `data_dirs` (a scenario's folder, `--data`) come first in the search path for weights. Raises
    ClassifierError where the network is unknown or fails, or weights, network and data do not fit, and
    FileNotFoundError, which says where it looked, where the weights are missing.
    """
    module = _build(spec)
    weights = spec.weights or DEFAULT_WEIGHTS.get(spec.network)
    if weights is not None:
        path = PACKAGED.get(weights) or _find(weights, data_dirs)
        _load(module, read_weights(path), f"weights {path} for {spec.network}")
        module = _normalised(module, spec, path)
    elif spec.network in NETWORKS:
        raise ClassifierError(f'network "{spec.network}" needs weights: a safetensors file')
    try:
        sample = dataset.games.take(slice(0, 1))
        classifier = Classifier.of(module, sample=sample, device=device, batch=batch, name=spec.network)
    except ValueError as error:
        raise ClassifierError(f'data set "{dataset.name}": {error}') from error
    if classifier.classes < dataset.classes:
        raise ClassifierError(
            f'network "{spec.network}" answers {classifier.classes} classes, too few for data set '
            f'"{dataset.name}" with {dataset.classes}'
        )
    return classifier


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; ClassifierError if it is none, cut short or tampered with."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ClassifierError(f"weights {path} cannot be read as a safetensors file: {error}") from error


def _normalised(module: nn.Module, spec: ClassifierSpec, path: Path) -> nn.Module:
    """`module` behind the input normalisation that the weights say, else the network's own."""
    known = NETWORKS.get(spec.network)
    with safe_open(path, "pt") as file:
        said = file.metadata() or {}
    if "norm_mean" in said and "norm_std" in said:
        mean, std = ([float(v) for v in said[key].split(",")] for key in ("norm_mean", "norm_std"))
    elif known:
        mean, std = list(known.mean), list(known.std)
    else:
        return module
    return module if not any(mean) and set(std) == {1.0} else Normalised(module, mean, std)


def _find(weights: str, folders: Iterable[Path]) -> Path:
    advice = f"put the file there, give its whole path, or name a packaged one ({', '.join(PACKAGED)})"
    return find("weights", [weights, str(Path("weights") / weights)], folders, advice)


def _build(spec: ClassifierSpec) -> nn.Module:
    known = NETWORKS.get(spec.network)
    factory = known.factory if known else _factory(spec.network)
    try:
        inspect.signature(factory).bind(**spec.params)
    except TypeError as error:
        allowed = inspect.signature(factory).parameters
        unknown = [key for key in spec.params if key not in allowed]
        meant = near(unknown[0] if unknown else "", allowed)
        raise ClassifierError(f'network "{spec.network}", params: {error}; {meant}') from error
    except ValueError:
        pass  # written in C, without a signature: the call itself will tell
    try:
        module = factory(**spec.params)
    except Exception as error:
        raise ClassifierError(f'network "{spec.network}" cannot be built: {error}') from error
    if not isinstance(module, nn.Module):
        raise ClassifierError(
            f'network "{spec.network}" must return a torch.nn.Module, not a {type(module).__name__}'
        )
    return module


def _factory(name: str) -> Callable[..., Any]:
    module_name, colon, attribute = name.partition(":")
    if not (colon and module_name and attribute):
        raise ClassifierError(f'there is no network "{name}"; {near(name, NETWORKS)}, or module:factory')
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ClassifierError(f'network "{name}": {module_name} cannot be imported: {error}') from error
    factory: Callable[..., Any] | None = getattr(module, attribute, None)
    if not callable(factory):
        allowed = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ClassifierError(
            f'network "{name}": no such callable in {module_name}; {near(attribute, allowed)}'
        )
    return factory


def _load(module: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    own = module.state_dict()
    given = _unwrapped(weights, own)
    counters = {key for key in own if key.endswith(".num_batches_tracked")}  # unused in eval mode
    reshaped = {
        f"{key} {list(given[key].shape)} instead of {list(own[key].shape)}"
        for key in own.keys() & given.keys()
        if given[key].shape != own[key].shape
    }
    wrong = {
        "missing": own.keys() - given.keys() - counters,
        "unexpected": given.keys() - own.keys(),
        "of another shape": reshaped,
    }
    if any(wrong.values()):
        told = "; ".join(f"{word}: {_few(keys)}" for word, keys in wrong.items() if keys)
        raise ClassifierError(f"{what} do not fit: {told}")
    if broken := [key for key, value in given.items() if not value.isfinite().all()]:
        raise ClassifierError(f"{what} hold values that are not finite: {_few(broken)}")
    module.load_state_dict(given, strict=False)


def _unwrapped(weights: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """Keys without the prefixes of wrappers, unless the network's own keys begin so."""
    given = dict(weights)
    for prefix in WRAPPERS * 2:  # either may stand around the other
        if (
            given
            and all(key.startswith(prefix) for key in given)
            and not any(k.startswith(prefix) for k in own)
        ):
            given = {key.removeprefix(prefix): value for key, value in given.items()}
    return given


def _few(keys: Iterable[str], most: int = 5) -> str:
    ordered = sorted(keys)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more
