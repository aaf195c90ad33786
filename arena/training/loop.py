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
"""Steps between two checks that the loss is finite, each of which waits for the device."""


class TrainingListener:
    """Receives the progress of a training; nothing that it does changes the training."""

    def begun(self, done: int, steps: int, epoch_steps: int) -> None:
        """`done` of `steps` steps were done before, by a run that was interrupted."""

    def stepped(self, rate: float) -> None:
        """One step was done; `rate` is the learning rate of the next one."""

    def epoch(self, number: int, train: Figures, calibration: Figures) -> None:
        """An epoch is over; epochs count from 1."""

    def not_kept(self, error: OSError) -> None:
        """A checkpoint could not be written; the previous one is still there."""


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
    """Train a job's network on its data set's train split, and report figures on the calibration split.

    With a checkpoint it continues from there, and writes its state regularly, at a stop and at the end; on a
    CPU it reaches the same bits as an uninterrupted run. On a CPU the same job gives the same weights on the
    same versions, hardware and number of threads; on a GPU some kernels sum in varying order, and only the
    order of the images and their augmentation are guaranteed to be the same. Torch's global random states are
    restored.

    Raises TrainingError if network, data and checkpoint do not fit or the loss is not finite, and Stopped,
    between two steps, once `stop` returns True.
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
                looked = evaluate(session.judged, job.data.calibration)
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
    except Exception as error:  # an untrusted file: any exception may come
        raise checkpoint.unusable("its state is none of this training") from error


def _keep(session: Session, checkpoint: Checkpoint, listener: TrainingListener) -> None:
    session.figures()  # raises if the loss is not finite, so that no such state is kept
    try:
        checkpoint.write(session.state())
    except OSError as error:
        listener.not_kept(error)
