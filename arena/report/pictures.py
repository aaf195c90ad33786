"""Games as pictures: the original, the adversarial image, and the difference between them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from arena.log import Log, questions
from arena.log.answers import LoggedGame, LoggedMatch, LoggedRun
from arena.report.summary import Row

if TYPE_CHECKING:
    from arena.datasets import Dataset

MOST = 30
"""The most games with pictures in a report."""
PER_MATCH = 3
"""The most games with pictures of one match."""
BYTES = 3_000_000
"""The most bytes of all pictures of a report together."""
FACTORS = [m * 10**e for e in range(4) for m in (1, 2, 5)]

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Picture:
    """A game that was won; the images as data URLs.

    Attributes:
        original, difference: None if the data set is not available.
        factor: how much the difference is amplified around grey.
        answered: the label answered for the adversarial image; None if it is no hit or was not logged.
    """

    game: LoggedGame
    adversarial: str
    original: str | None
    difference: str | None
    factor: int
    label: str
    target: str | None
    answered: str | None


class Originals:
    """The clean images of a run's matches, from the data sets that it was played on; `known` are those that
    were loaded already, and will hold further ones."""

    def __init__(
        self, run: LoggedRun, data_dirs: Sequence[Path], known: dict[str, Dataset | str] | None = None
    ) -> None:
        self._matches = run.info.resolved.get("matches", ())
        self._dirs = data_dirs
        self._known = {} if known is None else known

    def of(self, match: LoggedMatch) -> Dataset | str:
        """The data set of a match, or a sentence on why it is not available."""
        described = self._matches[match.info.number] if match.info.number < len(self._matches) else {}
        spec = described.get("world", {}).get("dataset")
        key = f"{spec} {match.info.dataset_sha}"
        if key not in self._known:
            self._known[key] = self._load(spec, match.info.dataset_sha)
        return self._known[key]

    def _load(self, spec: dict[str, Any] | None, sha: str) -> Dataset | str:
        if spec is None:
            return "Originals are not shown: the log does not say how its data set was loaded."
        from arena.datasets import DatasetSpec, load_dataset  # with torch, which takes seconds to load

        try:
            dataset = load_dataset(DatasetSpec(**spec), self._dirs)
        except (ValueError, OSError) as error:
            return f"Originals are not shown: {error}."
        if dataset.sha != sha:
            return (
                f'Originals are not shown: the data set "{dataset.name}" found here is not the one that was '
                f"played on (SHA-256 {dataset.sha[:12]}…, in the log {sha[:12]}…)."
            )
        return dataset


def choose(rows: Sequence[Row]) -> dict[int, int]:
    """How many games to show, by match id: the same number for all matches in which one was won, up to the
    limits."""
    won = [row for row in rows if row.won]
    if not won:
        return {}
    size = max(3 * 1.4 * np.prod(row.match.info.image_shape) for row in won)
    room = max(1, min(MOST, int(BYTES / size)))
    if len(won) > room:
        kept = np.linspace(0, len(won) - 1, room).round().astype(int)
        return {won[i].match.id: 1 for i in kept.tolist()}
    each = min(PER_MATCH, room // len(won))
    return {row.match.id: each for row in won}


def pictures(log: Log, match: LoggedMatch, count: int, dataset: Dataset | str) -> list[Picture]:
    """The first `count` games by image number that were won by the headline verdict."""
    won = questions.samples(log, match.id, count, won=True, verdict=match.info.verdict)
    return [picture(log, match, game, dataset) for game in won]


def picture(log: Log, match: LoggedMatch, game: LoggedGame, dataset: Dataset | str) -> Picture:
    """A game of a match, with the original where the data set is there."""
    here = None if isinstance(dataset, str) else dataset
    names = here.class_names if here and here.classes == match.info.classes else None

    def name(label: int | None) -> str | None:
        return None if label is None else str(label) if names is None else names[label]

    original, difference, factor = None, None, 0
    if here is not None:
        clean = _clean(here, game.image)
        factor = amplification(game.final - clean)
        original, difference = data_url(clean), data_url(0.5 + factor * (game.final - clean))
    return Picture(
        game=game,
        adversarial=data_url(game.final),
        original=original,
        difference=difference,
        factor=factor,
        label=name(game.label) or "",
        target=name(game.target),
        answered=name(_answered(log, game)),
    )


def data_url(image: Pixels) -> str:
    """An image [C,H,W] in [0,1] as a PNG in a data URL; if neither grey nor RGB, the mean of its channels."""
    pixels = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    shown = pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels.mean(axis=0).round().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(shown).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _clean(dataset: Dataset, image: int) -> Pixels:
    import torch

    source = dataset.games.source[torch.tensor([image])][0]
    pixels = source if source.is_floating_point() else source.float() / 255
    return np.asarray(pixels.numpy(), np.float32)


def amplification(difference: Pixels) -> int:
    """The largest of a few round factors that keeps every pixel of the difference within black and white."""
    most = float(np.abs(difference).max())
    fits = [factor for factor in FACTORS if factor * most <= 0.5 + 1e-6]
    return fits[-1] if fits and most > 0 else 1


def _answered(log: Log, game: LoggedGame) -> int | None:
    """The label answered for the final image: that of the logged hit at its distances."""
    asked = questions.transcript(log, game.id)
    near = np.isclose(asked.l2, game.l2, atol=1e-6) & np.isclose(asked.linf, game.linf, atol=1e-6)
    found = np.flatnonzero(asked.hit & near & np.isfinite(asked.l2))
    return int(asked.label[found[0]]) if len(found) else None
