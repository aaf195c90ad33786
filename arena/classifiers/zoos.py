"""Networks of timm and torchvision, optional extras."""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import nn

from arena.classifiers.errors import ClassifierError
from arena.messages import first_line, near

_PLACES = {"cache_dir", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"}
"""Parameters with which timm would read a file or an address that a stranger chose."""
_FORCED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_UNFORCED = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@dataclass(frozen=True)
class ZooNetwork:
    """A network of another package, with the normalisation of its published weights, None if it states none;
    `pretrained` is whether it holds these weights."""

    module: nn.Module
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None
    pretrained: bool


def build_timm(name: str, params: Mapping[str, Any]) -> ZooNetwork:
    """timm's `name`; `params` are those of its create_model, `pretrained = true` among them."""
    if places := sorted(_PLACES & params.keys()):
        raise ClassifierError(
            f'network "timm:{name}", params: "{places[0]}" says where weights come from; give the classifier '
            f"the key weights, or pretrained = true"
        )
    timm = _package("timm", name)
    if not timm.is_model(name.partition(".")[0]):
        raise _unknown("timm", name, timm.list_models())
    module = _built(f"timm:{name}", lambda: timm.create_model(name, **params))
    config = getattr(module, "pretrained_cfg", None) or {}
    mean, std = config.get("mean"), config.get("std")
    return ZooNetwork(
        module, (tuple(mean), tuple(std)) if mean and std else None, bool(params.get("pretrained"))
    )


def build_torchvision(name: str, params: Mapping[str, Any]) -> ZooNetwork:
    """torchvision's `name`; `params` are its builder's, `weights = "DEFAULT"` (or another of its names)."""
    models = _package("torchvision", name).models
    if name not in models.list_models():
        raise _unknown("torchvision", name, models.list_models())
    published = models.get_model_weights(name)
    given = dict(params)
    chosen = given.pop("weights", None)
    if chosen is not None and chosen not in published.__members__:
        allowed = near(str(chosen), published.__members__)
        raise ClassifierError(f'network "torchvision:{name}" has no weights "{chosen}"; {allowed}')
    of = "DEFAULT" if chosen is None else chosen
    weights = published[of] if of in published.__members__ else None
    loaded = None if chosen is None else weights
    module = _built(f"torchvision:{name}", lambda: models.get_model(name, weights=loaded, **given))
    transforms = None if weights is None else weights.transforms()
    mean, std = getattr(transforms, "mean", None), getattr(transforms, "std", None)
    return ZooNetwork(module, (tuple(mean), tuple(std)) if mean and std else None, loaded is not None)


ZOOS = {"timm": build_timm, "torchvision": build_torchvision}


def _unknown(package: str, name: str, known: Iterable[str]) -> ClassifierError:
    match = difflib.get_close_matches(name, known, n=1)
    meant = f'did you mean "{match[0]}"? ' if match else ""
    lists = {"timm": "timm.list_models()", "torchvision": "torchvision.models.list_models()"}
    return ClassifierError(
        f'{package} has no network "{name}"; {meant}{lists[package]} lists those that it has'
    )


def _package(package: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ClassifierError(
            f'network "{package}:{name}" needs {package}, which is not installed: install '
            f"blackbox-arena[{package}]"
        ) from error


def _built(network: str, make: Any) -> nn.Module:
    try:
        with _tensors_alone():
            module = make()
    except Exception as error:  # of another package or of the network
        reason = first_line(error)
        raise ClassifierError(f'network "{network}" cannot be built: {reason}') from error
    if not isinstance(module, nn.Module):
        raise ClassifierError(f'network "{network}" is a {type(module).__name__}, no torch.nn.Module')
    return module


@contextmanager
def _tensors_alone() -> Iterator[None]:
    """torch.load reads whatever these packages download with weights_only."""
    before = {key: os.environ.pop(key, None) for key in (_FORCED, _UNFORCED)}
    os.environ[_FORCED] = "1"
    try:
        yield
    finally:
        os.environ.pop(_FORCED)
        os.environ.update({key: value for key, value in before.items() if value is not None})
