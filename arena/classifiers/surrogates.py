"""Reference networks, as attackers hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from torch import Tensor, nn

from arena.classifiers.classifier import Classifier
from arena.classifiers.errors import ClassifierError
from arena.classifiers.programs import is_program
from arena.classifiers.spec import ClassifierSpec
from arena.classifiers.zoos import ZOOS
from arena.messages import fault


class Surrogate(nn.Module):
    """A classifier's network: images [n,C,H,W] float32 in [0,1] -> logits [n,K], with autograd through the
    images (none through the weights), in evaluation mode, its normalisation inside.

    Attributes:
        name, sha, remarks: the classifier's.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.network, self.reading = classifier.module, classifier.reading
        self.name, self.sha, self.remarks = classifier.name, classifier.sha, classifier.remarks
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x).float()
        return logits if self.reading is None else self.reading(logits)


def surrogate_of(loaded: Classifier, played: Classifier) -> Surrogate:
    """A loaded network as a reference network beside the classifier that is `played`.

    Raises:
        ClassifierError: if torch cannot differentiate through it, its images or classes are others than the
            classifier's, or it is not in float32.
    """
    for what, mine, its in (
        ("images", list(loaded.shape), list(played.shape)),
        ("classes", loaded.classes, played.classes),
    ):
        if mine != its:
            raise ClassifierError(
                f"network {loaded.name!r} has {what} {mine}; those of classifier {played.name!r} are {its}"
            )
    if loaded.precision != "float32" or loaded.compile:
        raise ClassifierError(
            f"network {loaded.name!r}: a reference network is differentiated in float32, and not compiled; "
            f"precision and compile change nothing there"
        )
    loaded.require_gradients()
    return Surrogate(loaded)


def spec_of(table: Mapping[str, Any]) -> ClassifierSpec:
    """The network that a table of a classifier's keys names.

    Raises:
        ClassifierError: if it has other keys or values; one sentence on the first.
    """
    try:
        return ClassifierSpec.model_validate(dict(table))
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise ClassifierError(f"{where}{fault(dict(first), ClassifierSpec.model_fields)}") from error


def check_sendable(spec: ClassifierSpec) -> None:
    """Raises ClassifierError unless a network can be handed to a process that reads the arena's source and
    installed packages alone."""
    package, colon, _ = spec.network.partition(":")
    if is_program(spec.network) or (colon and package not in ZOOS):
        raise ClassifierError(
            f'network "{spec.network}" cannot be handed to an attacker in a process of its own: those of the '
            f'arena\'s table, of timm and of torchvision can; isolation "none" goes without'
        )
