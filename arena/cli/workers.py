"""Who plays a run: the options `--workers` and `--ray` of `arena play`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from arena.running.ray_pool import RayPool, check_ray
from arena.running.runner import OpenPool
from arena.running.workers import WorkerPool, parse_workers


@dataclass(frozen=True)
class WorkersWanted:
    """The workers that a command asks for.

    Attributes:
        count: how many workers; None: not said. ray: the address of a cluster.
    """

    count: int | None = None
    ray: str | None = None

    @classmethod
    def of_words(cls, workers: str | None, ray: str | None) -> WorkersWanted:
        """What the command's options say. WorkerError if that is no number, or Ray is not installed."""
        if ray is not None:
            check_ray()
        return cls(None if workers is None else parse_workers(workers), ray)

    @property
    def elsewhere(self) -> bool:
        """Whether others than this process play."""
        return self.ray is not None or self.count not in (None, 1)

    @property
    def planned(self) -> int | None:
        """How many of these; None: nobody can say."""
        return self.count if self.elsewhere else 0

    @property
    def pool(self) -> OpenPool | None:
        """Those who play; None: this process."""
        if self.ray is not None:
            return partial(RayPool, address=self.ray, count=self.count)
        return None if self.count is None or not self.elsewhere else partial(WorkerPool, count=self.count)


NONE = WorkersWanted()
