"""Work in the order in which no long piece is left to the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from arena.running.work import Work


class LongestFirst:
    """Gives the piece of work that is expected to take longest.

    What is expected is a piece's size, times what pieces of its kind took for theirs: until one of them has
    ended, what all pieces took. So the order depends on time; what comes of the pieces must not depend on the
    order.
    """

    def __init__(self, works: Iterable[Work]) -> None:
        self._waiting: dict[int, deque[Work]] = {}
        for work in works:
            self._waiting.setdefault(work.kind, deque()).append(work)
        self._took: dict[int, tuple[float, float]] = {}

    def __bool__(self) -> bool:
        return any(self._waiting.values())

    def take(self) -> Work:
        """The next piece. IndexError if there is none."""
        first = [works[0] for works in self._waiting.values() if works]
        if not first:
            raise IndexError("no work is left")
        return self._waiting[max(first, key=self.expected).kind].popleft()

    def put_back(self, work: Work) -> None:
        """It must be done once more."""
        self._waiting[work.kind].appendleft(work)

    def took(self, work: Work, seconds: float) -> None:
        """A piece of work was done in so many seconds."""
        size, spent = self._took.get(work.kind, (0.0, 0.0))
        self._took[work.kind] = size + work.size, spent + seconds

    def expected(self, work: Work) -> float:
        """The seconds that a piece is expected to take; its size alone while nothing is known."""
        size, spent = self._took.get(work.kind) or self._overall()
        return work.size * spent / size if size else work.size

    def _overall(self) -> tuple[float, float]:
        return sum(size for size, _ in self._took.values()), sum(spent for _, spent in self._took.values())
