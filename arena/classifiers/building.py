"""Networks by name: those of the table, of other packages, of a user, and program files."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from arena.classifiers.errors import ClassifierError
from arena.classifiers.files import find_below
from arena.classifiers.from_numpy import FromNumpy
from arena.classifiers.networks import NETWORKS
from arena.classifiers.programs import PROGRAMS, is_program, read_program
from arena.classifiers.spec import ClassifierSpec
from arena.classifiers.zoos import ZOOS
from arena.datasets.dataset import MOST_CLASSES
from arena.inputs.names import NameRefused, import_attribute
from arena.interruptions import is_the_users
from arena.messages import failure, first_line, near, quoted

_ADVICE = "put the file there, or give its whole path"


@dataclass(frozen=True)
class Built:
    """A network without its weights, or with its own.

    Attributes:
        name: what the classifier is called.
        normalisation: the mean and std that its weights expect unless they state their own.
        complete: whether it can do without a weights file.
        fixed: why no weights file can be loaded into it; empty if one can.
        in_torch: whether it runs in torch, so that precision and compilation can be chosen.
        takes: the shape (C, H, W) of its images, None if it is free or unknown.
        card, remarks: the metadata of its file, and what a user should know about it.
    """

    module: nn.Module
    name: str
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    complete: bool = True
    fixed: str = ""
    in_torch: bool = True
    takes: tuple[int | None, ...] = (None, None, None)
    card: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def build(
    spec: ClassifierSpec, device: torch.device, folders: Iterable[Path], trusted: Collection[str] = ()
) -> Built:
    """The network that `spec.network` names.

    Of what "module:attribute" leads to, a class of modules is called, a module is taken as it is, and
    anything else, a function say, is called only if `trusted` holds that name: whoever wrote it may mean any
    function of any package.

    Raises ClassifierError if it cannot be made, FileNotFoundError where its file is missing.
    """
    if known := NETWORKS.get(spec.network):
        _check_classes(spec)
        module = _made(spec, known.factory)
        return Built(module, spec.network, (known.mean, known.std), complete=False)
    if is_program(spec.network):
        return _program(spec, device, folders)
    package, _, name = spec.network.partition(":")
    if package in ZOOS and name:
        zoo = ZOOS[package](name, spec.params)
        return Built(zoo.module, spec.network, zoo.normalisation, complete=zoo.pretrained)
    module = _named(spec, trusted)
    if isinstance(module, FromNumpy):
        return Built(module, spec.network, fixed="is a numpy function, which holds its own", in_torch=False)
    return Built(module, spec.network)


def packages_of(networks: Collection[str]) -> set[str]:
    """The optional packages that build or run these networks, by name, so that their versions decide too."""
    tops = {network.partition(":")[0] for network in networks}
    program = any(network.lower().endswith(".onnx") for network in networks)
    return (tops & set(ZOOS)) | ({"onnxruntime"} if program else set())


def _check_classes(spec: ClassifierSpec) -> None:
    """ClassifierError for a number of classes with which no network of the table can be made."""
    classes = spec.params.get("classes", 2)
    if not (type(classes) is int and 2 <= classes <= MOST_CLASSES):
        allowed = f"it must be a whole number from 2 to {MOST_CLASSES:,}"
        raise ClassifierError(
            f'network "{spec.network}", params: classes: found {quoted(classes)}; {allowed}'
        )


def _program(spec: ClassifierSpec, device: torch.device, folders: Iterable[Path]) -> Built:
    if spec.params:
        raise ClassifierError(f'network "{spec.network}" is a program file and takes no params')
    if ":" in spec.network:  # the part before a colon would be imported
        raise ClassifierError(f'network "{spec.network}": the name of a program file must hold no colon')
    path = find_below("program", spec.network, folders, _ADVICE)
    program = read_program(path, device)
    return Built(
        program,
        path.name,
        fixed="is a program file, which holds its own",
        in_torch=program.differentiable,
        takes=program.takes,
        card=program.card,
        remarks=program.remarks,
    )


def _made(spec: ClassifierSpec, factory: Callable[..., Any]) -> nn.Module:
    try:
        inspect.signature(factory).bind(**spec.params)
    except TypeError as error:
        allowed = inspect.signature(factory).parameters
        unknown = [key for key in spec.params if key not in allowed]
        meant = near(unknown[0] if unknown else "", allowed)
        own = "; a function that answers images itself is marked @FromNumpy" if not unknown else ""
        raise ClassifierError(f'network "{spec.network}", params: {error}; {meant}{own}') from error
    except ValueError:
        pass  # written in C, without a signature: the call itself reports wrong arguments
    try:
        module = factory(**spec.params)
    except BaseException as error:
        if is_the_users(error):
            raise
        reason = first_line(error) if isinstance(error, Exception) else failure(error)
        raise ClassifierError(f'network "{spec.network}" cannot be built: {reason}') from error
    if not isinstance(module, nn.Module):
        raise ClassifierError(
            f'network "{spec.network}" must return a torch.nn.Module, or a numpy function in a '
            f"FromNumpy, not a {type(module).__name__}"
        )
    return module


def _named(spec: ClassifierSpec, trusted: Collection[str]) -> nn.Module:
    """The module that "module:attribute" names, or makes."""
    name = spec.network
    if ":" not in name.strip(":"):
        others = f"module:Class, {', '.join(f'{zoo}:NAME' for zoo in ZOOS)}, a file ({', '.join(PROGRAMS)})"
        raise ClassifierError(f'there is no network "{name}"; {near(name, NETWORKS)}, or {others}')
    try:
        found = import_attribute(name)
    except NameRefused as error:
        raise ClassifierError(f'network "{name}": {error}') from error
    if isinstance(found, nn.Module):
        if spec.params:
            raise ClassifierError(f'network "{name}" is made already: it takes no params')
        return found
    if isinstance(found, type) and issubclass(found, nn.Module):
        return _made(spec, found)
    if not callable(found):
        raise ClassifierError(
            f'network "{name}" must be a torch.nn.Module, a class of such, or a numpy function in a '
            f"FromNumpy, not a {type(found).__name__}"
        )
    if name not in trusted:
        raise ClassifierError(
            f'network "{name}" is a function, which is called only where you trust it: add --trust {name} '
            f"(in Python, pass what it returns), or name a torch.nn.Module, a class of such or a function "
            f"marked @FromNumpy"
        )
    return _made(spec, found)
