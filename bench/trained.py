"""Defenses trained into a network, for real: on MNIST, and on CIFAR-10 as far as a CPU goes.

python -m bench trained --data DIR [--world mnist|resnet20] [--only NAME ...] [--images N] [--short]

MNIST's network is `cnn-a`, from new weights; CIFAR-10's is a trained ResNet-20. MNIST's trainings against
perturbed images go through radii that grow: straight at .3, a few epochs end at the constant answer. For
each: processor seconds, accuracy and calibration of all clean images, and of N images accuracy under
white-box `pgd` (linf, 40 steps, gradients of the network without its noise), by `vote` where answers are no
facts. PGD runs twice, with cross-entropy and with the margin, and the worse answer to each image counts: the
first alone finds no slope in a network of large logits, such as distillation leaves, which then looks robust.

Each training is cached (XDG_CACHE_HOME) and costs nothing the second time. `--short`: one epoch of each,
which shows that it works and no more.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arena.classifiers import Classifier
from arena.datasets import Dataset
from arena.evaluation.clean_images import Evaluation
from arena.game.stack import Stack, prepare
from arena.players import Loss
from arena.players.registry import build_defender
from arena.statistics import wilson
from arena.training import HardeningJob, Recipe, trained_in
from arena.training.objectives import AnyObjective, CrossEntropy, GaussianNoise, PGDTraining, TradesTraining
from bench.tables import between, table
from bench.worlds import games_of, load_world

RADII = {"mnist": (0.1, 0.2, 0.3), "resnet20": (2 / 255, 4 / 255, 8 / 255)}
LOSSES: tuple[Loss, Loss] = ("cross-entropy", "margin")
Plan = tuple[Recipe, ...] | Mapping[str, Any]
"""Trainings, each from the weights of the one before; or a defender that prepares itself."""


def plans(world: str) -> dict[str, Plan]:
    """What is trained in a world, by name."""
    return {"mnist": _mnist, "resnet20": _resnet20}[world]()


def _mnist() -> dict[str, Plan]:
    radii = ((0.1, 1), (0.2, 1), (0.3, 2))
    return {
        "undefended": (),
        "gaussian-augmentation": (_adam(GaussianNoise(sigma=0.05), 3),),
        "pgd-at": tuple(_adam(PGDTraining(epsilon=e, step=e / 4, steps=5), n) for e, n in radii),
        "trades": tuple(_adam(TradesTraining(epsilon=e, step=e / 4, steps=5, beta=1), n) for e, n in radii),
        "rse": {"name": "rse", "epochs": 4, "rate": 0.05},
        "pni": {"name": "pni", "epochs": 4, "rate": 0.05, "epsilon": 0.1, "step": 0.025, "steps": 5},
        "distillation": {"name": "distillation", "epochs": 25},
    }


def _resnet20() -> dict[str, Plan]:
    # Two long steps, since each costs a pass.
    worst: dict[str, Any] = {"epsilon": 8 / 255, "step": 6 / 255, "steps": 2}
    sgd: dict[str, Any] = {"rate": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "augment": "crop-flip"}
    gentle: dict[str, Any] = {"optimiser": "adam", "rate": 3e-4, "augment": "crop-flip"}
    from_weights = {"init": "weights", "augment": "crop-flip"}
    return {
        "undefended": (),
        "gaussian-augmentation": (_one_cycle(GaussianNoise(sigma=0.05), 2, **gentle),),
        "pgd-at": (_one_cycle(PGDTraining(**worst), 5, **sgd),),
        "trades": (_one_cycle(TradesTraining(**worst), 4, **sgd),),
        "rse": {"name": "rse", "epochs": 3, "rate": 0.01, **from_weights},
        "pni": {"name": "pni", "epochs": 2, "steps": 5, "rate": 0.01, **from_weights},
        "distillation": {"name": "distillation", "epochs": 4, **from_weights},
    }


def _adam(objective: AnyObjective, epochs: int, rate: float = 1e-3) -> Recipe:
    return _one_cycle(objective, epochs, optimiser="adam", rate=rate)


def _one_cycle(objective: AnyObjective, epochs: int, **settings: Any) -> Recipe:
    return Recipe(objective=objective, epochs=epochs, batch=128, schedule="one-cycle", **settings)


@dataclass(frozen=True)
class Trainings:
    """A world in which defenses are trained.

    Attributes:
        classifier: its network, undefended; images: how many are attacked; short: one epoch of each training.
        seconds: the processor's, in which that network was trained here.
    """

    name: str
    classifier: Classifier
    dataset: Dataset
    images: int
    short: bool = False
    seconds: float = 0.0

    def stack(self, plan: Plan) -> tuple[Stack, float]:
        """What a plan leaves, and the processor seconds that it took."""
        began = time.process_time()
        if isinstance(plan, Mapping):
            spec = {**plan, "epochs": 1} if self.short else plan
            stack = prepare(self.classifier, [build_defender(spec)], self.dataset)
        else:
            stack = Stack(self._in_turn(plan))
        return stack, time.process_time() - began if plan else self.seconds

    def _in_turn(self, recipes: Sequence[Recipe]) -> Classifier:
        found = self.classifier
        for recipe in recipes:
            once = recipe.model_copy(update={"epochs": 1}) if self.short else recipe
            found = trained_in(HardeningJob(found, self.dataset, once))
        return found

    def row(self, name: str, plan: Plan) -> dict[str, object]:
        """A row of the table."""
        stack, seconds = self.stack(plan)
        split = self.dataset.games
        clean = Evaluation(self.classifier, split, images=len(split)).of(stack, cost=False)
        accuracy = between(100 * clean.accuracy, 100 * clean.low, 100 * clean.high, 2)
        row = {"training": name, "s": round(seconds), "clean": accuracy, "ECE": f"{100 * clean.ece:.1f}"}
        return row | {f"pgd {epsilon:.3g}": self.left(stack, epsilon) for epsilon in RADII[self.name]}

    def left(self, stack: Stack, epsilon: float) -> str:
        """The share of images that PGD leaves right with either loss, in percent, with Wilson's interval."""
        lost = np.maximum(*(self._lost(stack, epsilon, loss) for loss in LOSSES))
        left = float((1 - lost).sum())
        return between(100 * left / len(lost), *(100 * end for end in wilson(left, len(lost))), 1)

    def _lost(self, stack: Stack, epsilon: float, loss: Loss) -> Any:
        """[n] whether each image is lost; those that are wrong before anybody attacks are."""
        split = self.dataset.games
        place = torch.arange(min(self.images, len(split)))
        rules = {
            "norm": "linf",
            "epsilon": epsilon,
            "budget": 1,
            "objective": "submit",
            "knowledge": "weights",
        }
        games = games_of(stack, split, place, rules, {"name": "pgd", "restarts": 1, "loss": loss})
        lost = np.asarray(games.answered if stack.answers_are_facts else games.vote, np.float64)
        return np.where(np.array(games.reason) == "clean", 1.0, lost)


def trainings(world: str, data: Sequence[Path], images: int, short: bool = False) -> Trainings:
    """A world that is loaded. MNIST's undefended network is trained first."""
    loaded = load_world(world, 1, data)
    found = Trainings(world, loaded.classifier, loaded.dataset, images, short)
    if world != "mnist":
        return found
    bare = _adam(CrossEntropy(), 1 if short else 3, rate=2e-3)
    began = time.process_time()
    trained = trained_in(HardeningJob(loaded.classifier, loaded.dataset, bare, start="scratch"))
    return replace(found, classifier=trained, seconds=time.process_time() - began)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", choices=RADII, default="mnist")
    parser.add_argument("--only", nargs="+", choices=tuple(plans("mnist")))  # each world's names are the same
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--data", type=Path, action="append", default=[])
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    world = trainings(given.world, given.data, given.images, given.short)
    rows = []
    for name, plan in plans(given.world).items():
        if given.only is None or name in given.only:
            rows.append(world.row(name, plan))
            print(table(rows), flush=True)


if __name__ == "__main__":
    main()
