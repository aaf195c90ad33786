"""What results depend on besides scenario, data and weights: versions and code, for logs and model cards."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from arena.classifiers.building import package_of


def versions(*networks: str) -> dict[str, str]:
    """Of this project and of what its numbers depend on, by name; and of the optional packages that build or
    run `networks`, named as in `ClassifierSpec`."""
    packages = sorted({package for network in networks if (package := package_of(network))})
    return {
        "blackbox-arena": version("blackbox-arena"),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "pillow": version("pillow"),
        "python": platform.python_version(),
        **{name: getattr(importlib.import_module(name), "__version__", "unknown") for name in packages},
    }


def code_of(written: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of the files that modules, or classes of theirs, are written in, by the modules' names."""
    files = {name: inspect.getsourcefile(thing) for name, thing in written.items()}
    return {
        name: hashlib.sha256(Path(file).read_bytes()).hexdigest()
        for name, file in sorted(files.items())
        if file is not None
    }


def module_of(network: str) -> dict[str, Any]:
    """The module that a network's name ("module:factory") begins with, by its own name, if there is one."""
    name, colon, _ = network.partition(":")
    try:
        return {name: importlib.import_module(name)} if colon else {}
    except Exception:  # whoever builds the network says so
        return {}
