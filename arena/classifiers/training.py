"""The project's own recipe: trains the digits CNN from a seed, in seconds, on one core.

`python -m arena.classifiers.training OUT.safetensors [--seed SEED]` writes the weights with a record of
how they came about; the packaged `weights/digits_cnn.safetensors` was written so, with seed 0.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from arena.classifiers.networks.digits import DigitsNet
from arena.datasets.dataset import Dataset, Split
from arena.datasets.digits import digits

EPOCHS = 60
BATCH = 50
RATE = 4e-3
DECAY = 1e-3
RANGES = (math.radians(15), 0.2, 0.1, 0.7, 0.7)  # rotation, shear, scale, shifts in pixels: +- each
RECIPE = (
    f"{EPOCHS} epochs over the train split, AdamW, one-cycle rate up to {RATE}, weight decay {DECAY}, batch "
    f"{BATCH}, images moved by up to 15 degrees, 0.2 shear, 10 % scale and 0.7 pixels, one thread"
)


def train_digits(seed: int = 0, data: Dataset | None = None) -> DigitsNet:
    """Train on the digits' train split alone; eval mode, frozen.

    The same seed gives the same weights on the same hardware and library versions, whatever the caller's
    threads and random state, which are left as they were.
    """
    split = (data or digits()).train
    with _seeded(seed):
        net = DigitsNet()
        images = split.images
        optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
        steps = EPOCHS * -(-len(split) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
        for _ in range(EPOCHS):
            for rows in torch.split(torch.randperm(len(split)), BATCH):
                loss = F.cross_entropy(net(_moved(images[rows])), split.labels[rows])
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                optimiser.step()
                schedule.step()
    return net.eval().requires_grad_(False)


def accuracy(net: nn.Module, split: Split) -> float:
    """Share of a split's images that a module in eval mode classifies correctly."""
    with torch.inference_mode():
        return float((net(split.images).argmax(1) == split.labels).double().mean())


def _moved(x: Tensor) -> Tensor:
    """Each image [n,C,H,W] rotated, sheared, scaled and shifted by draws of its own; zeros come in."""
    angle, shear, scale, *shift = (2 * torch.rand(5, len(x)) - 1) * torch.tensor(RANGES)[:, None]
    # affine_grid measures in half image sides
    right, down = (2 * pixels / side for pixels, side in zip(shift, (x.shape[3], x.shape[2]), strict=True))
    cos, sin = (1 + scale) * angle.cos(), (1 + scale) * angle.sin()
    rows = torch.stack([cos, shear - sin, right, sin, cos, down], dim=1)
    grid = F.affine_grid(rows.view(-1, 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """One thread, deterministic kernels' order and a random state of one's own, all put back afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and write OUT.safetensors, with data, recipe, seed, accuracies and versions in its metadata."""
    parser = argparse.ArgumentParser(
        prog="python -m arena.classifiers.training", description=train_digits.__doc__
    )
    parser.add_argument("out", type=Path, metavar="OUT.safetensors")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    data = digits()
    net = train_digits(options.seed, data)
    accuracies = {name: round(accuracy(net, split), 4) for name, split in data.splits.items()}
    facts = {
        "network": "digits-cnn",
        "data": f"scikit-learn's digits, values/16; dataset sha {data.sha}",
        "recipe": RECIPE,
        "seed": str(options.seed),
        "accuracy": json.dumps(accuracies),
        "versions": f"torch {torch.__version__}, scikit-learn {version('scikit-learn')}",
    }
    save_file(net.state_dict(), options.out, metadata=facts)
    print(f"{options.out}: accuracy {accuracies}")


if __name__ == "__main__":
    main()
