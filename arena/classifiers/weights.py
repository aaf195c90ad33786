"""Weights from files: tensors and metadata. Nothing in the files is executed."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from arena.classifiers.errors import ClassifierError
from arena.classifiers.files import broken, check_content, check_members
from arena.messages import first_line

PICKLES = (".pt", ".pth", ".th", ".bin", ".ckpt", ".model")
SUFFIXES = (".safetensors", *PICKLES)
CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "ema", "state_dict_ema", "model_ema")
WRAPPERS = ("module.", "_orig_mod.", "model.", "network.")  # DataParallel, torch.compile, Lightning, others
_CONVERT = (
    "where you trust its source, save its tensors alone: "
    'safetensors.torch.save_file(network.state_dict(), "NAME.safetensors")'
)


@dataclass(frozen=True)
class Weights:
    """What a weights file holds.

    Attributes:
        tensors: by key; floating-point ones in float32.
        card: the file's metadata on its origin.
        remarks: what a user should know about it, a sentence each.
    """

    tensors: dict[str, Tensor]
    card: dict[str, str]
    remarks: tuple[str, ...] = ()


def read_weights(path: Path) -> Weights:
    """Read a safetensors file, or a pickle of tensors with weights_only; nothing else is unpickled.

    Raises ClassifierError if the file is neither, cut short, tampered with, or asks for more than tensors.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ClassifierError(f"weights file {path} must be of one of the kinds {', '.join(SUFFIXES)}")
    check_content(path, "weights file")
    if path.suffix.lower() == ".safetensors":
        found = _safetensors(path)
    else:
        remark = (
            f"weights file {path} is a pickle, read as tensors alone and without running anything; know "
            f"where the file came from, and convert it to safetensors"
        )
        found = Weights(_state(_unpickled(path), f"weights file {path}"), {}, (remark,))
    tensors = {
        key: value.float() if value.is_floating_point() else value for key, value in found.tensors.items()
    }
    return Weights(tensors, found.card, found.remarks)


def fit_weights(module: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Put weights into a module, wrappers' prefixes taken off; ClassifierError names the keys that differ."""
    own = module.state_dict()
    given = _unwrapped(weights, own)
    counters = {key for key in own if key.endswith("num_batches_tracked")}  # unused in eval mode
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
        differences = "; ".join(f"{word}: {_few(keys)}" for word, keys in wrong.items() if keys)
        raise ClassifierError(f"{what} do not fit: {differences}")
    if not_finite := [key for key, value in given.items() if not value.isfinite().all()]:
        raise ClassifierError(f"{what} hold values that are not finite: {_few(not_finite)}")
    module.load_state_dict(given, strict=False)


def normalisation(card: Mapping[str, str], what: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """The `norm_mean` and `norm_std` of a file's metadata, None without; ClassifierError if unreadable."""
    if not {"norm_mean", "norm_std"} & card.keys():
        return None
    try:
        mean, std = (tuple(float(v) for v in card[key].split(",")) for key in ("norm_mean", "norm_std"))
    except (KeyError, ValueError):
        texts = {key: card.get(key) for key in ("norm_mean", "norm_std")}
        raise ClassifierError(
            f"{what}: metadata norm_mean and norm_std must both be numbers between commas; found {texts}"
        ) from None
    return mean, std


def _safetensors(path: Path) -> Weights:
    try:
        with safe_open(path, "pt") as file:
            return Weights({key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        reason = first_line(error)
        raise ClassifierError(
            f"weights file {path} cannot be read as a safetensors file: {reason}"
        ) from error


def _unpickled(path: Path) -> Any:
    """What torch.load(weights_only=True) reads from a pickle: tensors, numbers, words, containers."""
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"  # as torch.load decides
    try:
        if zipped:
            with zipfile.ZipFile(path) as archive:
                check_members(archive, path.stat().st_size, f"weights file {path}")
                names = [name.partition("/")[2] for name in archive.namelist()]
                if damaged := archive.testzip():  # torch.load does not look at the checksums
                    raise zipfile.BadZipFile(f"bad CRC-32 for {damaged}")
            if "constants.pkl" in names or "archive_format" in names:
                raise ClassifierError(
                    f"weights file {path} holds a program (TorchScript or torch.export): name it as the "
                    f"network"
                )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on the pickle's protocol
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise ClassifierError(f"weights file {path} {_asked_for(error)}; {_CONVERT}") from error
    except ClassifierError:
        raise
    except Exception as error:  # an untrusted file: any exception may come
        raise broken(path, "weights file", error) from error


def _asked_for(error: pickle.UnpicklingError) -> str:
    """What weights_only refused in a pickle, as a sentence without its subject."""
    if asked := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return f"asks for {asked[1]}, which is no tensor: a pickle that may run anything is not read"
    if re.search(r"operand|Weights only load failed", str(error)):
        return "holds a pickle of more than tensors, or no pickle at all: it is not read"
    return f"cannot be read: {first_line(error)}"


def _state(found: Any, what: str, depth: int = 3) -> dict[str, Tensor]:
    """The tensors of a checkpoint, out of the container that common training code puts them in."""
    if not isinstance(found, Mapping) or not found:
        raise ClassifierError(f"{what} must hold tensors by their keys; found a {type(found).__name__}")
    if all(isinstance(value, Tensor) and isinstance(key, str) for key, value in found.items()):
        return dict(found)
    inside = [key for key in CONTAINERS if isinstance(found.get(key), Mapping) and found[key]]
    if len(inside) > 1:
        raise ClassifierError(
            f"{what} holds several sets of tensors ({', '.join(inside)}): save the one that you mean alone"
        )
    if inside and depth:
        return _state(found[inside[0]], what, depth - 1)
    odd = [f"{key} ({type(value).__name__})" for key, value in found.items() if not isinstance(value, Tensor)]
    raise ClassifierError(
        f"{what} must hold tensors alone, or in one of {', '.join(CONTAINERS)}; found {_few(odd)}"
    )


def _unwrapped(weights: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """Keys without the prefixes of wrappers, unless the network's own keys begin so."""
    own = list(own)
    given = {key: value for key, value in weights.items() if key != "n_averaged" or key in own}
    for prefix in WRAPPERS * 2:  # they may be nested in any order
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
