"""`arena networks`."""

from __future__ import annotations

import inspect

import torch
from rich.markup import escape
from rich.table import Table

from arena.classifiers.loading import DEFAULT_WEIGHTS
from arena.classifiers.networks import NETWORKS
from arena.cli.console import out, say
from arena.training import RECIPES
from arena.training.recipes import DEFAULTS


def networks_command() -> int:
    """List the networks and recipes by name; returns the exit status."""
    table = Table("network", "images", "weights", "params", "recipe", box=None)
    for name, network in NETWORKS.items():
        with torch.device("meta"):
            size = sum(p.numel() for p in network.factory().parameters())
        taken = ", ".join(f"{p.name}={p.default}" for p in _keywords(network.factory))
        shape = "x".join(map(str, network.shape))
        own = " (packaged weights)" if name in DEFAULT_WEIGHTS else ""
        table.add_row(escape(name + own), shape, f"{size:,}", escape(taken), DEFAULTS.get(name, "quick"))
    out.print(table)
    say(
        "a network may also be module:factory, timm:NAME, torchvision:NAME, or a file: TorchScript (.pt, "
        ".ts, .torchscript), torch.export (.pt2) or ONNX (.onnx)"
    )
    out.print("\n[bold]recipes[/]")
    for name, named in RECIPES.items():
        out.print(f"  {name:<16} {escape(named.source)}", highlight=False)
    return 0


def _keywords(factory: object) -> list[inspect.Parameter]:
    found = inspect.signature(factory).parameters.values()  # type: ignore[arg-type]
    return [p for p in found if p.kind is inspect.Parameter.KEYWORD_ONLY]
