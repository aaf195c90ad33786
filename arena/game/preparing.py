"""What a defender gets to prepare itself: data and a classifier of its own, which nobody else plays with."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from arena.classifiers import Classifier
from arena.classifiers.fingerprints import fingerprint
from arena.datasets import Split
from arena.datasets.dataset import only
from arena.players.defender import Defender, Splits

PARTS = ("train", "calibration")


class MissingPart(ValueError):
    """A defender asked for a part of the data that the caller did not give, which is the caller's fault."""


@dataclass(frozen=True, eq=False)
class OwnSplits:
    """The parts of a data set on which a defender prepares itself, and nothing else of it.

    Images in memory and labels are copies, which the images of other parts do not share; of image files only
    those of the parts are known. A part that is missing is told of when it is asked for.

    Attributes:
        parts: by their names; numbered anew.
        missing: why a part is not there, a sentence, by its name.
    """

    parts: Mapping[str, Split]
    missing: Mapping[str, str]

    @classmethod
    def of(cls, splits: Splits) -> OwnSplits:
        """Copies of the parts of `splits`."""
        found: dict[str, Split] = {}
        missing: dict[str, str] = {}
        for name in PARTS:
            try:
                found[name] = getattr(splits, name)
            except ValueError as error:
                missing[name] = str(error)
        return cls(_copied(found), missing)

    @property
    def train(self) -> Split:
        return self._part("train")

    @property
    def calibration(self) -> Split:
        return self._part("calibration")

    def _part(self, name: str) -> Split:
        if name in self.missing:
            raise MissingPart(self.missing[name])
        return self.parts[name]


def _copied(parts: Mapping[str, Split]) -> dict[str, Split]:
    """Copies of splits; those of one data set stay splits of one, so that they can be added."""
    found: dict[str, Split] = {}
    for source in {id(part.source): part.source for part in parts.values()}.values():
        of = {name: part for name, part in parts.items() if part.source is source}
        numbers = torch.cat([part.index for part in of.values()])
        own, first = only(source, numbers), 0
        for name, part in of.items():
            index = torch.arange(first, first + len(part), device=numbers.device)
            found[name] = Split(own, index, part.labels.detach().clone())
            first += len(part)
    return found


class Lent:
    """A classifier, and the copy of it that defenders get in its place.

    A user's function and an ONNX session stay themselves in the copy; a network that cannot be copied is
    lent itself.

    Attributes:
        own: the classifier.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.own = classifier

    @cached_property
    def copy(self) -> Classifier:
        try:
            return self.own.copied()
        except Exception:  # a module of a user's: whatever its parts say
            return copy.copy(self.own)

    @cached_property
    def _print(self) -> str:
        return fingerprint(self.copy.module)

    def lend(self) -> Classifier:
        """The copy, its weights noted."""
        _ = self._print
        return self.copy

    @property
    def changed(self) -> bool:
        """Whether the copy has other weights than it was lent with."""
        return fingerprint(self.copy.module) != self._print


def overrides(defender: Defender, method: str) -> bool:
    """Whether a defender has a method of its own of this name in place of `Defender`'s."""
    return getattr(getattr(defender, method), "__func__", None) is not getattr(Defender, method)
