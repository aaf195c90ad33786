"""What results depend on besides what is in the repository: versions, for logs and model cards."""

from __future__ import annotations

import importlib
import platform
from importlib.metadata import version

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
