"""`arena networks`."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table

from arena.classifiers.loading import DEFAULT_WEIGHTS
from arena.classifiers.networks import NETWORKS
from arena.cli.console import out, say, say_json
from arena.training import RECIPES
from arena.training.recipes import DEFAULTS


def networks_command(as_json: bool) -> int:
    """List the networks and recipes by name; returns the exit status."""
    rows = [_row(name, network) for name, network in NETWORKS.items()]
    if as_json:
        recipes = [{"name": name, "source": named.source} for name, named in RECIPES.items()]
        say_json({"networks": rows, "recipes": recipes})
        return 0
    table = Table("network", "images", "weights", "params", "recipe", box=None)
    for row in rows:
        taken = ", ".join(f"{name}={default}" for name, default in row["params"].items())
        shape = "x".join(map(str, row["shape"]))
        own = " (packaged weights)" if row["packaged_weights"] else ""
        table.add_row(escape(row["name"] + own), shape, f"{row['weights']:,}", escape(taken), row["recipe"])
    out.print(table)
    say(
        "a network may also be module:Class, timm:NAME, torchvision:NAME, or a file: TorchScript (.pt, "
        ".ts, .torchscript), torch.export (.pt2) or ONNX (.onnx)"
    )
    out.print("\n[bold]recipes[/]")
    for name, named in RECIPES.items():
        out.print(f"  {name:<16} {escape(named.source)}", highlight=False)
    return 0


def _row(name: str, network: Any) -> dict[str, Any]:
    """A network: its images' shape, how many weights it has, its keywords with defaults, and its recipe."""
    with torch.device("meta"):
        size = sum(p.numel() for p in network.factory().parameters())
    return {
        "name": name,
        "shape": list(network.shape),
        "weights": size,
        "packaged_weights": name in DEFAULT_WEIGHTS,
        "params": {p.name: p.default for p in _keywords(network.factory)},
        "recipe": DEFAULTS.get(name, "quick"),
    }


def _keywords(factory: object) -> list[inspect.Parameter]:
    found = inspect.signature(factory).parameters.values()  # type: ignore[arg-type]
    return [p for p in found if p.kind is inspect.Parameter.KEYWORD_ONLY]
