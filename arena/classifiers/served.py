"""Functions of a user's, which may ask a service: calls are counted by their cause, and tried again where the
service fails."""

from __future__ import annotations

import hashlib
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from arena.classifiers.errors import ServiceError
from arena.classifiers.outages import is_outage
from arena.interruptions import raise_pending
from arena.messages import in_short
from arena.progress import remark

Cause = Literal[
    "checks",
    "preparing",
    "openings",
    "resources",
    "utility",
    "cost",
    "queries",
    "monitor",
    "verdicts",
    "insider",
]
CAUSES: dict[Cause, str] = {
    "checks": "checks when it is loaded",
    "preparing": "preparing defenders",
    "openings": "openings: clean images drawn, and the mark at 0",
    "resources": "images to start from",
    "utility": "utility on clean images",
    "cost": "cost of answering",
    "queries": "charged queries",
    "monitor": "undefended margins beside them",
    "verdicts": "verdicts",
    "insider": "insider's evaluations",
}
"""Why a classifier is asked, in words; only the charged queries are anybody's account."""

REMEMBERED: frozenset[Cause] = frozenset({"openings", "resources", "utility", "verdicts"})
"""The causes for which no image is asked twice."""
MEMORY_BYTES = 2**27
"""Bytes of answers that a memory holds."""

DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds waited before a failed call is tried again."""

Answer = TypeVar("Answer")
_cause: ContextVar[Cause | None] = ContextVar("cause", default=None)
_counters: ContextVar[tuple[Calls, ...]] = ContextVar("counters", default=())


class Calls:
    """Calls of functions and the images in them, by the function's name and the cause.

    Attributes:
        calls, images: of calls that were answered, by (name, cause).
        repeated: tries beyond the first, by name.
    """

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, Cause]] = Counter()
        self.images: Counter[tuple[str, Cause]] = Counter()
        self.repeated: Counter[str] = Counter()

    @contextmanager
    def counting(self) -> Iterator[None]:
        """What is asked within counts here. Also a decorator."""
        token = _counters.set((*_counters.get(), self))
        try:
            yield
        finally:
            _counters.reset(token)

    def add(self, others: Calls) -> None:
        """Count what was counted elsewhere, too."""
        self.calls.update(others.calls)
        self.images.update(others.images)
        self.repeated.update(others.repeated)

    def of(self, name: str) -> dict[Cause, tuple[int, int]]:
        """A function's calls and images by cause."""
        return {cause: (self.calls[name, cause], self.images[name, cause]) for cause in CAUSES}


@contextmanager
def asking(cause: Cause) -> Iterator[None]:
    """What is asked within is asked for `cause`, unless a cause was named further out. Also a decorator."""
    if _cause.get() is not None:
        yield
        return
    token = _cause.set(cause)
    try:
        yield
    finally:
        _cause.reset(token)


def remembered() -> bool:
    """Whether no image is to be asked twice for what is going on."""
    return _cause.get() in REMEMBERED


class Served(nn.Module):
    """A classifier whose answers come from a function of a user's."""

    name: str
    """Module and qualified name of the function."""

    def ask(self, call: Callable[[], Answer], images: int) -> Answer:
        """The answer of one call of the function, on so many images.

        Where a service cannot be reached or is overloaded (`is_outage`), it is tried again after each of
        `DELAYS`. All other errors are the caller's.

        Raises:
            ServiceError: if the last try fails, too.
        """
        for delay in (*DELAYS, None):
            raise_pending()  # the function may swallow what a signal raises in it
            try:
                answer = call()
            except Exception as error:
                if not is_outage(error):
                    raise
                said = in_short(error)
                if delay is None:
                    break
            else:
                key = (self.name, _cause.get() or "checks")
                for counter in _counters.get():
                    counter.calls[key] += 1
                    counter.images[key] += images
                return answer
            if delay == DELAYS[0]:
                remark(f"classifier {self.name} failed ({said}); trying again, up to {len(DELAYS)} times")
            for counter in _counters.get():
                counter.repeated[self.name] += 1
            time.sleep(delay)
        raise ServiceError(
            f"classifier {self.name} did not answer {images} images in {len(DELAYS) + 1} tries over "
            f"{sum(DELAYS):g} seconds: {said}"
        )


def served_in(module: nn.Module) -> Served | None:
    """The function that a network consists of, or is wrapped around; None if it has none."""
    return next((part for part in module.modules() if isinstance(part, Served)), None)


class AnswerMemory:
    """The answers of a served classifier to images that were asked on nobody's account, so that none is paid
    for twice. The oldest are forgotten beyond `MEMORY_BYTES`. A copy is empty."""

    def __init__(self) -> None:
        self._answers: OrderedDict[bytes, Tensor] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return AnswerMemory, ()

    def answer(self, x: Tensor, ask: Callable[[Tensor], Tensor]) -> Tensor:
        """Logits [n,K] of images `x` [n,C,H,W]: `ask` gives those of the images that are not known."""
        pixels = x.detach().cpu().contiguous().flatten(1).numpy()
        keys = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in pixels]
        new: dict[bytes, int] = {}
        for place, key in enumerate(keys):
            if key in self._answers:
                self._answers.move_to_end(key)
            else:
                new.setdefault(key, place)
        if new:
            asked = ask(x[torch.tensor(list(new.values()), device=x.device)])
            self._answers.update(zip(new, asked.clone().unbind(), strict=True))
        logits = torch.stack([self._answers[key] for key in keys])
        while len(self._answers) > capacity(logits.shape[1]):
            self._answers.popitem(last=False)
        return logits


def capacity(classes: int) -> int:
    """How many answers of so many logits a memory holds."""
    return MEMORY_BYTES // (4 * classes + 500)
