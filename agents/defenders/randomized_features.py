"""Randomized features: noise within the network, as large as the classifier tolerates."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from agents.defenders.parts.feature_noise import FeatureNoise
from agents.defenders.parts.surgery import changed, executed, first_free_number
from agents.parameters import check_within
from arena.classifiers import Classifier
from arena.players import Defender, Rows, Splits, tell
from arena.players.card import Card
from arena.rules.outcome import labels_of
from arena.training import in_form

MOST = 1000
"""The most calibration images on which sigma is tuned, and train images of which features are measured."""
LOWEST, OCTAVES, STEPS = 2.0**-12, 18, 8
"""Sigma is sought in so many octaves from `LOWEST` on, which are halved so often: to about five percent."""
_STAGE = re.compile(r"(layer|stage|block)_?\d+")
_BLOCKS = ("blocks", "stages", "layers")


@dataclass(frozen=True)
class RandomizedFeatures(Defender):
    """Noise on hidden features (Nguyen, Lao, Pham, Wong and Doan, "Understanding the Robustness of Randomized
    Feature Defense Against Query-Based Adversarial Attacks", ICLR 2024): h + sigma v, v ~ N(0, I), on what
    enters chosen layers, new for each query.

    Where none are named, they are, as in the authors' code: the stages of a ResNet (`layer1`, ..., so that
    noise is on the output of the stem and of each stage but the last); else the blocks of a transformer; else
    every convolution, as in a VGG.

    Attributes:
        sigma: the standard deviation, in the features' own units; None: the largest for which the accuracy on
            (at most 1000) calibration images falls by no more than `drop`.
        drop: the accuracy that may be lost to the noise, for sigma=None (the paper: .01 to .02).
        before: names of the layers to whose input noise is added, as the network names its submodules;
            (): chosen as above.
        scaled: multiply the noise by the standard deviation of each feature over (at most 1000) training
            images.
    """

    sigma: float | None = None
    drop: float = 0.01
    before: tuple[str, ...] = ()
    scaled: bool = False
    _facts: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    random: ClassVar[bool] = True
    card: ClassVar[Card] = Card(
        alters=("features",),
        paper="Nguyen, Lao, Pham, Wong and Doan, Understanding the Robustness of Randomized Feature Defense "
        "Against Query-Based Adversarial Attacks, ICLR 2024",
        claims="resists score and decision attacks for 1 to 2 points of accuracy, without any training",
    )

    def __post_init__(self) -> None:
        # Noise near the largest float32 would leave no row a label.
        check_within(self, 0, 1e6, "sigma")
        if not 0 <= self.drop < 1:
            raise ValueError(f"drop must be from 0 to below 1; found {self.drop}")

    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        """The classifier with noise within it."""
        places = self.before or places_of(classifier)
        scales = _deviations(classifier, places, splits) if self.scaled else {}
        noisy = self._noisy(classifier, places, scales)
        if self.sigma is None:
            _tune(classifier, noisy, self.drop, splits)
        return noisy

    def _noisy(
        self, classifier: Classifier, places: tuple[str, ...], scales: Mapping[str, Tensor]
    ) -> Classifier:
        names = [name for name, _ in classifier.module.named_modules()]
        for place in places:
            if place not in names or not place:
                known = ", ".join(names[1:8])
                raise ValueError(
                    f"before must name layers of classifier {classifier.name!r} ({known}, ...); found "
                    f"{place!r}"
                )
        first, sigma = first_free_number(classifier.module), self.sigma or 0.0

        def with_noise(place: str, number: int) -> Any:
            noise = FeatureNoise(number, sigma, scales.get(place)).eval()
            return lambda layer: nn.Sequential(noise, layer)

        change = {place: with_noise(place, first + n) for n, place in enumerate(places)}
        return in_form(classifier, lambda module: changed(module, change))

    def rebuild(self, classifier: Classifier, tensors: Mapping[str, Tensor]) -> Classifier:
        made = self._noisy(classifier, self.before or places_of(classifier), {})
        for name, layer in made.module.named_modules():
            if isinstance(layer, FeatureNoise):
                layer.scale = torch.empty_like(tensors[f"{name}.scale"])
        return made.with_tensors(tensors)

    def preparing(self, splits: Splits) -> int:
        tuned = (STEPS + 1) * min(MOST, len(splits.calibration)) if self.sigma is None else 0
        return tuned + (min(MOST, len(splits.train)) if self.scaled else 0)

    def fit(self, classifier: Classifier, splits: Splits) -> Self:
        """This defender with its facts: the sigma that is played (of the outermost, where it is stacked on
        another)."""
        *_, last = _from(0, classifier.module)
        return self.restore({"sigma": float(last.sigma)}, classifier)

    def facts(self) -> dict[str, Any]:
        return dict(self._facts)

    def state(self) -> dict[str, Any]:
        return dict(self._facts)

    def restore(self, state: Mapping[str, Any], classifier: Classifier) -> Self:
        fitted = copy.copy(self)
        object.__setattr__(fitted, "_facts", dict(state))
        return fitted


def places_of(classifier: Classifier) -> tuple[str, ...]:
    """The layers before which the authors put noise: stages, else blocks, else convolutions.

    Raises:
        ValueError: if the network has none of them.
    """
    for name, layer in classifier.module.named_modules():
        prefix = f"{name}." if name else ""
        stages = [child for child, _ in layer.named_children() if _STAGE.fullmatch(child)]
        if len(stages) > 1:
            return tuple(prefix + child for child in stages)
        for child in _BLOCKS:
            parts = getattr(layer, child, None)
            if isinstance(parts, nn.Sequential | nn.ModuleList) and len(parts) > 1:
                return tuple(f"{prefix}{child}.{part}" for part, _ in parts.named_children())
    if found := executed(classifier.module, classifier.shape, nn.Conv2d):
        return tuple(found)
    raise ValueError(
        f"randomized-features finds no stages, blocks or convolutions in classifier {classifier.name!r}; "
        f"name layers in before"
    )


def _from(number: int, module: nn.Module) -> list[FeatureNoise]:
    """The layers of noise in a network from a number on, in order."""
    found = (layer for layer in module.modules() if isinstance(layer, FeatureNoise))
    return sorted((layer for layer in found if layer.number >= number), key=lambda layer: layer.number)


def _deviations(classifier: Classifier, places: tuple[str, ...], splits: Splits) -> dict[str, Tensor]:
    """The standard deviation of each feature that enters the layers at `places`, over training images."""
    module, seen = copy.deepcopy(classifier.module), dict[str, Tensor]()
    sums = {place: [torch.zeros(()), torch.zeros(())] for place in places}

    def note(place: str) -> Any:
        return lambda layer, inputs: seen.__setitem__(place, inputs[0])

    for place in places:
        module.get_submodule(place).register_forward_pre_hook(note(place))
    count = min(MOST, len(splits.train))
    for cut in range(0, count, classifier.batch):
        images = splits.train.take(slice(cut, min(cut + classifier.batch, count)))
        with torch.no_grad():
            module(images.to(classifier.device))
        for place, features in seen.items():
            total, square = sums[place]
            exact = features.double()
            sums[place] = [total + exact.sum(dim=0), square + exact.square().sum(dim=0)]
    return {
        place: (square / count - (total / count).square()).clamp_min(0).sqrt().float()
        for place, (total, square) in sums.items()
    }


def _tune(classifier: Classifier, noisy: Classifier, drop: float, splits: Splits) -> None:
    """Set the largest sigma, found by bisection, that costs no more than `drop` of the accuracy on
    calibration images; 0 if even the smallest does."""
    count = min(MOST, len(splits.calibration))
    x, labels = splits.calibration.take(slice(0, count)), splits.calibration.labels[:count]
    key = torch.arange(count, device=classifier.device)
    rows = Rows(game=key, key=key, turn=torch.ones_like(key), account=torch.zeros_like(key), place=key)

    def right(asked: Classifier) -> int:
        answers = asked(x.to(asked.device), rows if asked.random else None)
        return int((labels_of(answers) == labels.to(answers.device)).sum())

    def set_to(octaves: float | None) -> None:
        for layer in _from(first_free_number(classifier.module), noisy.module):
            layer.sigma.fill_(0.0 if octaves is None else LOWEST * 2**octaves)

    fewest = right(classifier) - drop * count
    low, high, best = 0.0, float(OCTAVES), None
    for step in range(STEPS):
        tell("sizes of the noise tried", step, STEPS)
        middle = (low + high) / 2
        set_to(middle)
        if right(noisy) >= fewest:
            low, best = middle, middle
        else:
            high = middle
    set_to(best)
