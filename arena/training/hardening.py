"""Trained weights of hardened classifiers, kept in the user's cache: each training is done once.

A file is in the safetensors format and named by the SHA-256 of the job's identity. Beside it lies, while it
is being trained, a checkpoint from which a training goes on that was killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from arena.classifiers import Classifier
from arena.datasets.folders import cache
from arena.interruptions import caught, noting, raise_pending
from arena.progress import remark, tell
from arena.training.checkpoint import Checkpoint
from arena.training.cost import cost_of, duration
from arena.training.errors import Stopped, Unusable
from arena.training.files import write_whole
from arena.training.hardening_job import HardeningJob, sha_of, tensors_of
from arena.training.loop import Trained, TrainingListener, train
from arena.training.session import Figures

_POLL = 0.5
"""Seconds between two looks whether another process is done."""


def trained_in(job: HardeningJob, folder: Path | None = None, every: float = 60.0) -> Classifier:
    """The classifier of a job: read from the cache, or trained and kept there.

    What the training costs is told before it begins, and how far it is meanwhile. It goes on from where a
    kill or Ctrl-C ended it, which loses at most the steps since the last checkpoint. Of several processes
    that want the same one, one trains, and the others wait for it. Where the cache cannot be written, all is
    the same but that nothing is kept.

    Args:
        folder: None for `trained` in the user's cache.
        every: seconds between two checkpoints.

    Raises:
        TrainingError: if the job cannot be trained.
        Interrupted: if a signal asked to stop meanwhile.
    """
    key = hashlib.sha256(json.dumps(job.identity, sort_keys=True).encode()).hexdigest()
    path = (folder or cache() / "trained") / f"{key}.safetensors"
    if (found := _kept(path, job.identity)) is not None:
        return job.made(found)
    with _alone(path) as held:
        if (found := _kept(path, job.identity)) is not None:
            return job.made(found)
        checkpoint = Checkpoint(path.with_suffix(".checkpoint"), job.identity, every) if held else None
        network = _trained(job, checkpoint).network
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors_of(network).items()}
        try:
            _keep(path, tensors, job.identity)
        except OSError as error:
            remark(f"the trained weights could not be kept in {path}: {error.strerror or error}")
        else:
            if checkpoint is not None:
                checkpoint.remove()
    return job.made(tensors)


def _trained(job: HardeningJob, checkpoint: Checkpoint | None) -> Trained:
    cost = cost_of(job)
    tell(cost.sentence)
    if cost.seconds >= _Told.LONG:
        remark(cost.sentence)
    try:
        return _to_the_end(job, checkpoint)
    except Unusable as error:
        assert checkpoint is not None
        remark(f"{error}, which is done now")
        checkpoint.remove()
        return _to_the_end(job, checkpoint)


def _to_the_end(job: HardeningJob, checkpoint: Checkpoint | None) -> Trained:
    """A signal stops the training between two steps, so that all of them are kept."""
    try:
        with noting():
            return train(job, checkpoint, _Told(), stop=lambda: caught() is not None)
    except Stopped:
        if checkpoint is not None and checkpoint.path.exists():
            remark(f"the training goes on from {checkpoint.path} the next time")
        raise_pending()
        raise


class _Told(TrainingListener):
    """Tells how far a training is."""

    LONG = 30.0
    """Seconds from which on its cost is more than a passing word."""

    def __init__(self) -> None:
        self.done = self.steps = self.per_epoch = 0
        self.since, self.began = 0, time.monotonic()
        self.loss = ""
        self.complained = False

    def begun(self, done: int, steps: int, epoch_steps: int) -> None:
        self.done = self.since = done
        self.steps, self.per_epoch, self.began = steps, epoch_steps, time.monotonic()
        if done:
            tell(f"going on after step {done:,}", done, steps)

    def stepped(self, rate: float) -> None:
        self.done += 1
        left = (self.steps - self.done) * (time.monotonic() - self.began) / (self.done - self.since)
        epoch, epochs = (-(-steps // self.per_epoch) for steps in (self.done, self.steps))
        tell(
            f"epoch {epoch} of {epochs}{self.loss}, about {duration(left)} left, step", self.done, self.steps
        )

    def epoch(self, number: int, train: Figures, calibration: Figures) -> None:
        self.loss = f", loss {train.loss:.3f}, {100 * calibration.accuracy:.1f} % of calibration right"

    def not_kept(self, error: OSError) -> None:
        if not self.complained:
            remark(f"no checkpoint could be written: {error.strerror or error}; the training goes on")
        self.complained = True


def _kept(path: Path, identity: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The tensors of a file, if there is a whole one of this training."""
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, ValueError, RuntimeError):
        facts, tensors = {}, {}
    if facts.get("identity") == _written(identity) and facts.get("sha") == sha_of(tensors):
        return tensors
    remark(f"{path} is damaged or was changed; what it held is trained again")
    return None


def _keep(path: Path, tensors: Mapping[str, Tensor], identity: Mapping[str, Any]) -> None:
    """Write tensors, as a whole, under a name of this process's own first. Raises OSError."""
    new = path.with_name(f"{uuid.uuid4().hex}.new")
    try:
        write_whole(new, save(dict(tensors), {"identity": _written(identity), "sha": sha_of(tensors)}))
        new.replace(path)
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def _written(identity: Mapping[str, Any]) -> str:
    return json.dumps(identity, sort_keys=True)


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """No other process trains what `path` is to hold meanwhile; False: that cannot be made sure here."""
    lock = path.with_suffix(".lock")
    try:
        handle = _locked(lock)
    except OSError:
        handle = None
    try:
        yield handle is not None
    finally:
        if handle is not None:
            with suppress(OSError):
                lock.unlink(missing_ok=True)
            os.close(handle)


def _locked(lock: Path) -> int | None:
    """A handle of a file whose lock it holds, once nobody else does. Raises OSError."""
    if fcntl is None:
        return None
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            while not _taken(handle):
                tell("waiting for another process that trains the same")
                time.sleep(_POLL)
            if os.path.samestat(os.fstat(handle), lock.stat()):
                return handle
        except FileNotFoundError:  # who held it removed it
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
