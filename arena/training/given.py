"""Weights made elsewhere, in place of a training."""

from __future__ import annotations

import copy
from pathlib import Path

from torch import Tensor, nn

from arena.classifiers import Classifier
from arena.classifiers.files import find_below
from arena.classifiers.networks import Normalised
from arena.classifiers.weights import fit_weights, normalisation, read_weights
from arena.training.errors import TrainingError
from arena.training.hardening_job import Form, in_form, tensors_of


def weights_file(name: str) -> Path:
    """The file of this name in the search path (the current folder, ARENA_DATA, the user's cache), or in
    `weights` there; an absolute name is taken as it is.

    Raises FileNotFoundError that names the places searched.
    """
    return find_below("weights", name, (), "put the file there, or give its whole path")


def with_weights(classifier: Classifier, name: str, form: Form | None = None) -> Classifier:
    """`classifier`, in another form if there is one, with the weights of a file: of `arena train`, of the
    arena's cache, or of other code.

    Its input normalisation stays, unless the file states one.

    Raises:
        ClassifierError: if the file is no weights file, or its names or shapes are others.
        FileNotFoundError: if there is none.
    """
    path = weights_file(name)
    made, weights = in_form(classifier, form), read_weights(path)
    if weights.tensors.keys() == made.tensors().keys():
        return _with_tensors(made, weights.tensors, path)
    module = copy.deepcopy(made.module)
    inside = module.network if isinstance(module, Normalised) else module
    fit_weights(inside, weights.tensors, f"weights {path}")
    stated = normalisation(weights.card, f"weights {path}")
    if stated is not None and isinstance(module, Normalised):
        _normalise(module, stated, path)
    return made.with_tensors(tensors_of(module))


def _with_tensors(made: Classifier, tensors: dict[str, Tensor], path: Path) -> Classifier:
    try:
        return made.with_tensors(tensors)
    except ValueError as error:
        raise TrainingError(f"weights {path} do not fit: {error}") from error


def _normalise(module: Normalised, stated: tuple[tuple[float, ...], tuple[float, ...]], path: Path) -> None:
    try:
        other = Normalised(nn.Identity(), *stated)
        module.mean.copy_(other.mean.expand_as(module.mean))
        module.std.copy_(other.std.expand_as(module.std))
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"weights {path}: their normalisation (mean {list(stated[0])}, std {list(stated[1])}) does not "
            f"fit the classifier's, of {module.mean.numel()} channels"
        ) from error
