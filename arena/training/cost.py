"""What a training costs, before it begins."""

from __future__ import annotations

import time
from dataclasses import dataclass

from arena.training.hardening_job import HardeningJob
from arena.training.session import Session, own_draws


@dataclass(frozen=True)
class Cost:
    """The work of a training.

    Attributes:
        images, epochs, passes: so many images, so many times, each so many times through the network a step.
        through: images through the network in all.
        seconds: about how long that takes here.
    """

    images: int
    epochs: int
    passes: int
    through: int
    seconds: float

    @property
    def sentence(self) -> str:
        times = "once" if self.passes == 1 else f"{self.passes} times"
        return (
            f"training: {self.epochs:,} epochs of {self.images:,} images, each {times} through the network a "
            f"step: {self.through:,} images in all, about {duration(self.seconds)} here"
        )


def cost_of(job: HardeningJob) -> Cost:
    """The cost of a job by its recipe, and by the time of one step, which is taken and forgotten."""
    images, recipe = len(job.data.train), job.recipe
    epoch_steps, steps = recipe.steps(images)
    with own_draws(job.seed, job.device):
        session = Session(job)
        for _ in range(min(2, steps)):  # the first one warms up
            began = time.monotonic()
            session.advance()
            session.figures()
        seconds = (time.monotonic() - began) * steps
    epochs = -(-steps // epoch_steps)
    return Cost(images, epochs, recipe.objective.passes, recipe.images(images), seconds)


def duration(seconds: float) -> str:
    """A time in words, roughly."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
