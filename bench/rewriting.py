"""AAA's rewriting of logits over the bare forward pass, and its own milliseconds by the number of classes.

python -m bench.rewriting
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import torch

from agents.defenders.aaa.linear import AAALinear
from arena.classifiers import Classifier, ClassifierSpec, load_classifier
from arena.classifiers.networks import NETWORKS
from arena.datasets import load_dataset
from arena.game.stack import Stack
from arena.game.stack_oracle import StackOracle
from arena.players import Rows

ROWS = 256
CLASSES = (10, 100, 1000)


def rows(count: int) -> Rows:
    """The first query of `count` games."""
    index = torch.arange(count)
    return Rows(index, index, torch.ones_like(index), torch.zeros_like(index), index)


def seconds(call: Callable[[], object], repeats: int = 7) -> float:
    """The median of `repeats` calls, after one to warm up."""
    call()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def over_forward(classifier: Classifier) -> dict[str, float | str]:
    """Time of AAA-linear's answers over those of the bare classifier, on the same images."""
    x = torch.rand(ROWS, *classifier.shape, generator=torch.Generator().manual_seed(0))
    asking = rows(ROWS)
    bare = StackOracle(Stack(classifier))
    defended = StackOracle(Stack(classifier, (AAALinear(temperature=1.0),)))
    ratios = []
    for _ in range(5):
        plain = seconds(lambda: bare.respond(x, asking), 3)
        ratios.append(seconds(lambda: defended.respond(x, asking), 3) / plain)
    return {
        "classifier": classifier.name,
        "rows": ROWS,
        "forward_ms": round(plain * 1e3, 2),
        "over_forward": round(statistics.median(ratios), 3),
    }


def rewriting(classes: int) -> dict[str, float]:
    """Milliseconds of rewriting alone."""
    scores = 3 * torch.randn(ROWS, classes, generator=torch.Generator().manual_seed(0))
    aaa = AAALinear(temperature=1.0)
    x = torch.zeros(ROWS, 1, 1, 1)
    stand_in = Classifier(
        _Constant(scores), shape=(1, 1, 1), classes=classes, batch=ROWS, name=f"{classes} classes"
    )
    oracle = StackOracle(Stack(stand_in, (aaa,)))
    asking = rows(ROWS)
    return {
        "classes": classes,
        "rows": ROWS,
        "ms": round(seconds(lambda: oracle.respond(x, asking)) * 1e3, 2),
    }


class _Constant(torch.nn.Module):
    """Answers any batch with the same scores."""

    scores: torch.Tensor

    def __init__(self, scores: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("scores", scores)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores[: len(x)]


def main() -> None:
    digits = load_classifier(ClassifierSpec(network="digits-cnn"), load_dataset("digits"), batch=64)
    resnet = Classifier(
        NETWORKS["resnet20"].factory(), shape=(3, 32, 32), classes=10, batch=64, name="resnet20"
    )
    for classifier in (digits, resnet):
        print(json.dumps(over_forward(classifier)), flush=True)
    for classes in CLASSES:
        print(json.dumps(rewriting(classes)), flush=True)


if __name__ == "__main__":
    main()
