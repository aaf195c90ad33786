"""From a job to trained weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from arena.training.checkpoint import Checkpoint
from arena.training.errors import Stopped
from arena.training.job import Job
from arena.training.session import Figures, Session, evaluate, own_draws

LOOK = 100
"""Steps between two looks at whether the loss is finite, each of which waits for the device."""


class TrainingListener:
    """Hears how a training goes; nothing that it does changes anything."""

    def begun(self, done: int, steps: int, epoch_steps: int) -> None:
        """`done` of so many steps were done before, by a run that was interrupted."""

    def stepped(self, rate: float) -> None:
        """One step was done; `rate` is the next one's."""

    def epoch(self, number: int, train: Figures, calibration: Figures) -> None:
        """An epoch is over, counted from 1."""

    def not_kept(self, error: OSError) -> None:
        """A checkpoint could not be written; the one before is still there."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A pure network in eval mode, frozen, and the normalisation that belongs before it."""

    network: nn.Module
    mean: list[float]
    std: list[float]
    steps: int
    epochs: int


def train(
    job: Job,
    checkpoint: Checkpoint | None = None,
    listener: TrainingListener | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train a job's network on its data set's train split, looking on at the calibration split.

    With a checkpoint it goes on from there, writes its state to it now and then, at a stop and at the end,
    and on a CPU comes to the bits that an uninterrupted run comes to. On a CPU the same job gives the same
    weights on the same versions, hardware and number of threads; on a GPU some kernels add in an order of
    their own, and only orders and augmentations are sure to be the same. Torch's global random states are
    left as they were.

    Raises TrainingError where network, data and checkpoint do not fit or the loss is not finite, and Stopped,
    between two steps, once `stop` says so.
    """
    listener = listener or TrainingListener()
    with own_draws(job.seed, job.device):
        session = Session(job)
        if checkpoint and (state := checkpoint.read()) is not None:
            _restore(session, state, checkpoint)
        listener.begun(session.step, session.steps, session.epoch_steps)
        while session.step < session.steps:
            session.advance()
            listener.stepped(session.rate)
            ends = session.step % session.epoch_steps == 0 or session.step == session.steps
            if ends or session.step % LOOK == 0:
                figures = session.figures()
            if ends:
                looked = evaluate(session.trained, session.mean, session.std, job.data.calibration)
                listener.epoch(-(-session.step // session.epoch_steps), figures, looked)
            stopping = stop()
            if checkpoint and (stopping or checkpoint.due or session.step == session.steps):
                _keep(session, checkpoint, listener)
            if stopping and session.step < session.steps:
                raise Stopped
    network = session.trained.eval().requires_grad_(False)
    return Trained(
        network, session.mean, session.std, session.steps, -(-session.steps // session.epoch_steps)
    )


def _restore(session: Session, state: dict[str, Any], checkpoint: Checkpoint) -> None:
    try:
        session.restore(state)
    except Exception as error:  # of a stranger's making: anything may come
        raise checkpoint.unusable("its state is none of this training") from error


def _keep(session: Session, checkpoint: Checkpoint, listener: TrainingListener) -> None:
    session.figures()  # nothing that is not finite is ever kept
    try:
        checkpoint.write(session.state())
    except OSError as error:
        listener.not_kept(error)
