"""Workers on the nodes of a Ray cluster (the optional extra `ray`)."""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any

import torch

from arena.interruptions import HEEDED, heeding
from arena.messages import in_short, quoted
from arena.running.crew import Died, Heard
from arena.running.workers import WorkerError
from arena.running.workplace import Message, Supplies, Workplace
from arena.scenario.prepared_stacks import PreparedStacks

_WAITING = 4
"""Messages for each seat that may wait for this process before the workers wait for it."""
_SMALLEST = 0.0001
"""The smallest share of a GPU that Ray knows."""
_places: dict[str, Workplace] = {}
"""The workplace of a Ray worker's process, by the run that it is of: one at a time."""


class RayPool:
    """A `Pool` of tasks of a Ray cluster, one for each seat at a time. Use it in a `with` statement.

    A task takes one CPU and, where the run plays on a GPU, a GPU or a share of one. Prepared defenders are
    sent to the nodes; data and weights must lie there, where they lie here or where ARENA_DATA says.

    Args:
        address: `local` for a cluster of this process's own on this machine; `auto` or host:port.
        count: how many seats; None: one for each CPU of the cluster.

    Raises:
        WorkerError: on entering, if Ray is not installed or there is no such cluster.
    """

    def __init__(self, supplies: Supplies, address: str, count: int | None) -> None:
        self._address, self._count = address, count
        self._kept, self._supplies = supplies.prepared, replace(supplies, prepared=None)
        self.seats = 0
        self._tokens = itertools.count()
        self._next: Any = None
        self._playing: dict[int, tuple[int, Any]] = {}
        """By seat the number of what it does, and the task, until that has said all."""

    def give(self, seat: int, job: bytes) -> None:
        """Have a task do a job, on whatever node has room."""
        token = next(self._tokens)
        task = self._task.remote(*self._shared, self._stacks, self._mail, token, job)
        self._playing[seat] = token, task

    def hear(self) -> tuple[int, Heard]:
        """What a task says next, or how it ended: its seat and the message."""
        while True:
            tasks = {task: seat for seat, (_, task) in self._playing.items() if task is not None}
            (first, *_), _ = self._ray.wait([self._next, *tasks], num_returns=1)
            if first == self._next:
                token, message = pickle.loads(self._ray.get(self._next))
                self._next = self._mail.actor.get.remote()
                for seat, (own, _) in self._playing.items():
                    if own == token:  # else of a task that was dropped
                        return seat, message
            elif (death := self._death(first)) is not None:
                del self._playing[tasks[first]]
                return tasks[first], death
            else:  # what it said last is still to be heard
                seat = tasks[first]
                self._playing[seat] = self._playing[seat][0], None

    def _death(self, task: Any) -> Died | None:
        try:
            self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            return Died(in_short(error))
        return None

    def drop(self, seat: int) -> None:
        """Have a job end in the middle, with the process that does it."""
        _, task = self._playing.pop(seat, (0, None))
        if task is not None:
            with suppress(self._ray.exceptions.RayError, ValueError):  # it may have ended
                self._ray.cancel(task, force=True)

    def __enter__(self) -> RayPool:
        self._ray = ray = _ray()
        from ray.util.queue import Queue

        with _own_signals():
            _connect(ray, self._address, self._count)
        resources = ray.cluster_resources()
        self.seats = self._count or max(1, int(resources.get("CPU", 1)))
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self._mail = Queue(_WAITING * self.seats, {"num_cpus": 0, "scheduling_strategy": here})
        self._next = self._mail.actor.get.remote()
        task = ray.remote(num_cpus=1, num_gpus=self._gpus(resources), max_retries=0, max_calls=0)
        self._task = task(_do)
        device = self._supplies.device.partition(":")[0]  # a task sees its own GPU alone
        run = f"{socket.gethostname()} {os.getpid()} {id(self)}"
        self._shared = run, ray.put((list(sys.path), pickle.dumps(replace(self._supplies, device=device))))
        store = PreparedStacks(self._kept).store
        self._stacks = {sha: ray.put(store.content(sha)) for sha in self._supplies.stacks}
        return self

    def _gpus(self, resources: dict[str, float]) -> float:
        """The share of a GPU that a task takes."""
        if not self._supplies.device.startswith("cuda"):
            return 0.0
        share = resources.get("GPU", 0) / self.seats
        if not share:
            raise WorkerError("--ray: the cluster has no GPU; --device cpu plays without")
        return 1.0 if share >= 1 else max(share // _SMALLEST * _SMALLEST, _SMALLEST)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for seat in list(self._playing):
            self.drop(seat)
        self._ray.shutdown()


def check_ray() -> None:
    """WorkerError if Ray is not installed."""
    _ray()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        said = "--ray: Ray is not installed here; pip install 'blackbox-arena[ray]' brings it"
        raise WorkerError(said) from error
    return ray


def _connect(ray: Any, address: str, count: int | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own = {"num_cpus": count, "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **own)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise WorkerError(
            f"--ray: there is no cluster at {quoted(address)} ({in_short(error)}); allowed: local, auto, or "
            f"the host:port of a cluster that runs"
        ) from error


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes the handlers of signals; here they are put back."""
    before = {number: signal.getsignal(number) for number in HEEDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def _do(
    run: str,
    shared: tuple[Sequence[str], bytes],
    stacks: dict[str, Any],
    mail: Any,
    token: int,
    job: bytes,
) -> None:
    """What a task does, on a node."""
    import ray

    path, supplies = shared
    sys.path += [folder for folder in path if folder not in sys.path]
    if run not in _places:
        _places.clear()
        torch.set_num_threads(1)
        _places[run] = Workplace(pickle.loads(supplies))
    place = _places[run]
    for sha, content in stacks.items():
        if not place.stacks.store.holds(sha):
            place.stacks.store.take_in(ray.get(content))
    with heeding():
        place.do(job, partial(_say, mail, token))


def _say(mail: Any, token: int, message: Message) -> None:
    mail.put(pickle.dumps((token, message), pickle.HIGHEST_PROTOCOL))
