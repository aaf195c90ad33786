"""Whose failure it is what comes out of foreign code: an attacker's, a defender's, a classifier's, or none
but the user's wish to stop. Each ends what is its own, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from arena.classifiers.errors import ClassifierError, ServiceError
from arena.interruptions import is_the_users, raise_pending
from arena.messages import UserError, failure
from arena.modes import own_modes
from arena.players.stand_in import StandIn


class Told(Exception):
    """What became of an agent in a process of its own: one sentence, which is said as it is."""


class AttackerError(UserError):
    """An attacker's own code failed, or met a limit: one line.

    Attributes:
        error: what it raised.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(in_words(error))
        self.error = error


class DefenderError(UserError):
    """A defender failed, met a limit, or gave back something else than it must: one line."""


class LimitError(Exception):
    """A limit of the match was met: one sentence."""


def _never(error: BaseException) -> bool:
    return False


@contextmanager
def blaming(
    defender: object, method: str, of_others: Callable[[BaseException], bool] = _never
) -> Iterator[None]:
    """What is raised within is a failure of `defender` in its `method`, and what it sets in torch is undone.

    Args:
        of_others: tells what goes its way as it is: a failure of the classifier that the defender asked.

    Raises:
        DefenderError: with the defender, the method and what was raised.
    """
    with own_modes():
        try:
            yield
        except DefenderError:
            raise
        except BaseException as error:
            if is_the_users(error) or of_others(error) or _of_a_service(error):
                raise
            said = f"{class_of(defender)}.{method} failed with {failure(error)}"
            raise DefenderError(said) from error
    raise_pending()


@contextmanager
def blaming_classifier(name: str) -> Iterator[None]:
    """What is raised within is a failure of the classifier called `name`.

    Raises:
        ClassifierError: with what was raised.
    """
    try:
        yield
    except ClassifierError:
        raise
    except BaseException as error:
        if is_the_users(error):
            raise
        raise ClassifierError(f"classifier {name!r} failed with {failure(error)}") from error


def in_words(error: BaseException) -> str:
    """What an agent raised, in one line."""
    return str(error) if isinstance(error, Told) else failure(error)


def class_of(agent: object) -> str:
    """What an agent's class is called, for a sentence; where something stands for the agent, its name."""
    return agent.name if isinstance(agent, StandIn) else type(agent).__name__


def is_unwritten(error: BaseException) -> bool:
    """Whether `error` is how `Defender` says that an optional method is not written."""
    return isinstance(error, NotImplementedError)


def _of_a_service(error: BaseException) -> bool:
    """Whether a user's function that asks a service gave up: no agent's failure, whoever asked."""
    if not isinstance(error, ServiceError) or error.__traceback__ is None:
        return False
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    return last.tb_frame.f_globals.get("__name__") == "arena.classifiers.served"
