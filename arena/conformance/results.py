"""Checks and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from arena.interruptions import is_the_users
from arena.messages import failure

Subject = TypeVar("Subject")


class ConformanceError(AssertionError):
    """An agent does not keep to the interface: one sentence on what it did and what is asked of it."""


class Skip(Exception):
    """A check that cannot be judged because of a fault that another check reports."""


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """One thing that is asked of an agent.

    Attributes:
        name: in kebab-case.
        asks: what is asked, in one line.
        run: raises ConformanceError where the agent fails and Skip where it cannot be judged; returns a
            remark, or None.
    """

    name: str
    asks: str
    run: Callable[[Subject], str | None]


@dataclass(frozen=True)
class CheckResult:
    """What came of a check; `sentence` says why it failed or was skipped, or holds a remark."""

    name: str
    asks: str
    verdict: Literal["passed", "failed", "skipped"]
    sentence: str = ""

    @property
    def error(self) -> str | None:
        """The sentence of a check that failed."""
        return self.sentence if self.verdict == "failed" else None


def results_of(checks: Sequence[Check[Subject]], subject: Subject) -> Iterator[CheckResult]:
    """Run `checks` in order, each as it is asked for."""
    for check in checks:
        try:
            remark = check.run(subject)
        except ConformanceError as error:
            yield CheckResult(check.name, check.asks, "failed", str(error))
        except Skip as reason:
            yield CheckResult(check.name, check.asks, "skipped", str(reason))
        except BaseException as error:  # out of the agent's own code, wherever a check looks at it
            if is_the_users(error):
                raise
            yield CheckResult(check.name, check.asks, "failed", f"it failed with {failure(error)}")
        else:
            yield CheckResult(check.name, check.asks, "passed", remark or "")


def raise_first(results: Iterator[CheckResult], name: str) -> None:
    """Raise ConformanceError for the first outcome of agent `name` that failed."""
    for outcome in results:
        if outcome.error is not None:
            raise ConformanceError(f'{name} fails the check "{outcome.name}": {outcome.error}')
