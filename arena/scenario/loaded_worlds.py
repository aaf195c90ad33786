"""What a match is played on: a data set, a classifier, and the images drawn for its games."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from arena.classifiers import Classifier, ClassifierError, ClassifierSpec, load_classifier
from arena.classifiers.devices import sized
from arena.classifiers.served import asking, served_in
from arena.classifiers.surrogates import Surrogate, surrogate_of
from arena.datasets import Dataset, DatasetError, Drawn, draw, load_dataset
from arena.game.openings import Openings, ResourcePool, check_resources, draw_targets
from arena.rules.outcome import Ints, labels_of
from arena.scenario.blocks import World
from arena.scenario.errors import ScenarioError
from arena.scenario.matches import Match
from arena.scenario.reference_networks import placed, specs_of


@dataclass(frozen=True, eq=False)
class LoadedWorld:
    """A world, loaded for matches of one size and seed.

    Attributes:
        pool: the `resources` split, from which the threats' resources are granted.
        drawn: positions in the `games` split in drawing order, and which of them the classifier gets right.
        surrogates: the reference networks that the match's threat grants.
    """

    dataset: Dataset
    classifier: Classifier
    pool: ResourcePool
    drawn: Drawn
    surrogates: tuple[Surrogate, ...] = ()

    def __len__(self) -> int:
        return len(self.drawn.index)

    @property
    def surrogate_shas(self) -> list[str]:
        """The SHAs of the reference networks, in the order of the threat."""
        return [one.sha for one in self.surrogates]

    def keys(self, rows: slice) -> Ints:
        """The numbers of the images at places `rows` of the drawing order."""
        found: Ints = self.dataset.games.index[self.drawn.index[rows]].cpu().numpy()
        return found

    def openings(self, match: Match, rows: slice) -> Openings:
        """The games of a match at places `rows` of the drawing order."""
        split, device = self.dataset.games, self.classifier.device
        place = self.drawn.index[rows]
        label, key = split.labels[place].to(device), split.index[place].to(device)
        seed = match.seeds.of_draw(match.settings.seed)
        target = draw_targets(match.threat, label, key, self.classifier.classes, seed)
        numbers = match.seeds.numbers(self.keys(rows), int(split.index.max()) + 1)
        number = torch.from_numpy(numbers).to(device)
        return Openings(split.take(place).to(device), label, key, target, number)


@dataclass(frozen=True)
class Settled:
    """What was found out once about worlds, for other processes that load them: no data and no weights.

    Attributes:
        batches: rows per forward pass, by a world and what its scenario says of them.
        drawn: the images drawn, by a world, these rows, the count of games and the seed.
    """

    batches: Mapping[tuple[World, int | None], int] = field(default_factory=dict)
    drawn: Mapping[tuple[World, int, int, int], Drawn] = field(default_factory=dict)


class LoadedWorlds:
    """The worlds of matches, each loaded once and its images drawn once, or as `settled` says."""

    def __init__(
        self,
        folder: Path,
        data_dirs: Sequence[Path],
        device: torch.device,
        trusted: Collection[str] = (),
        settled: Settled | None = None,
    ) -> None:
        self.trusted = trusted
        self.dirs = [folder, *data_dirs]
        self.device = device
        self._worlds: dict[tuple[World, int | None], tuple[Dataset, Classifier, ResourcePool]] = {}
        self._surrogates: dict[tuple[World, ClassifierSpec], Surrogate] = {}
        self._batches = dict(settled.batches) if settled else {}
        self._drawn = dict(settled.drawn) if settled else {}

    def settled(self) -> Settled:
        """What was found out, for another process."""
        return Settled(dict(self._batches), dict(self._drawn))

    def of(self, match: Match) -> LoadedWorld:
        """The world of `match`.

        Raises:
            ScenarioError: if data, classifier or reference networks cannot be loaded, do not fit each other,
                or too few images are classified right.
        """
        dataset, classifier, pool = self._world(match)
        if match.attacker.needs.knowledge == "weights":
            with _placed(f"{match.where}{match.attacker_name}: "):
                classifier.require_gradients()
        surrogates = self._surrogates_of(match, dataset, classifier)
        try:
            check_resources(match.threat, pool)
        except ValueError as error:
            raise ScenarioError(f"{match.where}threat: {error}") from error
        key = (match.world, classifier.batch, match.settings.games, match.seeds.of_draw(match.settings.seed))
        if key not in self._drawn:
            self._drawn[key] = self._draw(dataset, classifier, match)
        return LoadedWorld(dataset, classifier, pool, self._drawn[key], surrogates)

    def _world(self, match: Match) -> tuple[Dataset, Classifier, ResourcePool]:
        world, batch = match.world, match.settings.batch
        if (world, batch) not in self._worlds:
            with _placed(f"{match.where}dataset: "):
                dataset = load_dataset(world.dataset, self.dirs)
            with _placed(f"{match.where}classifier: "):
                loaded = load_classifier(
                    world.classifier, dataset, self.device, data_dirs=self.dirs, trusted=self.trusted
                )
            classifier = sized(loaded, self._batches.get((world, batch), batch))
            self._batches[world, batch] = classifier.batch
            self._worlds[world, batch] = dataset, classifier, ResourcePool(dataset.resources, classifier)
        return self._worlds[world, batch]

    def _surrogates_of(self, match: Match, dataset: Dataset, classifier: Classifier) -> tuple[Surrogate, ...]:
        """The match's reference networks, each loaded once for a world."""
        specs = specs_of(match.threat, match.where)
        for number, spec in enumerate(specs, 1):
            if (match.world, spec) not in self._surrogates:
                with placed(match.where, number):
                    loaded = load_classifier(
                        spec, dataset, self.device, data_dirs=self.dirs, trusted=self.trusted
                    )
                    self._surrogates[match.world, spec] = surrogate_of(loaded, classifier)
        return tuple(self._surrogates[match.world, spec] for spec in specs)

    @asking("openings")
    def _draw(self, dataset: Dataset, classifier: Classifier, match: Match) -> Drawn:
        split, wanted = dataset.games, match.settings.games

        def is_right(place: Tensor) -> Tensor:
            answers = labels_of(classifier(split.take(place).to(self.device))).cpu()
            return answers == split.labels[place]

        paid = served_in(classifier.module) is not None
        drawn = draw(split, match.seeds.of_draw(match.settings.seed), wanted, is_right, sparing=paid)
        found = int(drawn.right.sum())
        what = f"classifier {classifier.name} gets {found} of the {len(split)} images of {dataset.name} right"
        if not found:
            raise ScenarioError(f"{match.where}{what}: there is nothing to attack")
        if found < wanted:
            raise ScenarioError(
                f"{match.where}games: found {wanted}; {what}, so {found} games at most can be played"
            )
        return drawn


@contextmanager
def _placed(where: str) -> Iterator[None]:
    """Adds to an error where in the scenario the failing part is named."""
    try:
        yield
    except (DatasetError, ClassifierError, FileNotFoundError, PermissionError) as error:
        raise ScenarioError(f"{where}{error}") from error
