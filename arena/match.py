"""A match: an attacker's generator driven against a Referee."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Protocol

import torch

from arena.classifiers.threads import computing_threads
from arena.games import Holdings
from arena.moves import Answers, Consult, Move, Note, Play, Resign, Volley, VolleyError
from arena.players import Attacker, generator_only
from arena.referee import Referee
from arena.transcript import Bools, GameRows, NoteRows, Reason

IDLE_VOLLEYS = 10
"""Volleys in a row without a granted row after which an attacker is stopped (`stalled`)."""
IDLE_MOVES = 1000
"""Moves of other kinds, consults apart, in a row after which an attacker is stopped (`stalled`)."""
IDLE_CONSULTS = 1_000_000
"""Consults in a row after which an attacker is stopped: a white box makes many before its only query."""


@computing_threads(1)
def play_games(
    attacker: Attacker,
    referee: Referee,
    *,
    seed: int = 0,
    defense: dict[str, Any] | None = None,
    holdings: Holdings | None = None,
) -> GameRows:
    """Let `attacker` play all of the referee's games to their end.

    Beside the classifier all is computed in one thread.

    An attacker that fails ends its open games with reason `error`, and the log gets a note that says why.

    Args:
        seed: of the attacker's draws.
        defense: the defender's name and parameters, shown where the threat's knowledge allows.
        holdings: the attacker's own resources.
    """
    seat = referee.seat(seed=seed, defense=defense, holdings=holdings)
    try:
        play = generator_only(attacker.play(seat))
    except Exception as error:
        return _fail(referee, error)
    with _own_modes():
        try:
            reason = converse(play, referee)
        except AttackerError as failure:
            return _fail(referee, failure.error)
        finally:
            _close(play)
        return referee.finish(reason)


class AttackerError(Exception):
    """An attacker's own code failed."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Host(Protocol):
    """Who serves an attacker's moves: a Referee, or what stands for one.

    Attributes:
        open: [G] bool, the games that go on.
        granted: how many rows of the last volley were charged.
    """

    @property
    def open(self) -> Bools: ...

    @property
    def granted(self) -> int: ...

    def serve(self, move: Move) -> Answers: ...


def converse(play: Play, host: Host) -> Reason:
    """Serve an attacker's moves until it ends; the reason for which its open games are to end.

    Raises:
        AttackerError: if the attacker's code fails.
    """
    step: Callable[[], Move] = partial(next, play)
    volleys = consults = moves = 0
    while True:
        try:
            move = step()
        except StopIteration:
            return "resigned"
        except Exception as error:
            raise AttackerError(error) from error
        if not host.open.any() and not isinstance(move, Note | Resign):
            return "resigned"
        try:
            with _own_modes():
                reply = host.serve(move)
        except VolleyError as error:
            # Without the Referee's own frames, so that the note of an uncaught one names the attacker's line.
            step, volleys = partial(play.throw, error.with_traceback(None)), volleys + 1
        else:
            step = partial(play.send, reply)
            granted = isinstance(move, Volley) and host.granted > 0
            volleys = 0 if granted else volleys + isinstance(move, Volley)
            insider = isinstance(move, Consult)
            consults = 0 if granted else consults + insider
            moves = 0 if granted else moves + (not insider)
        if volleys >= IDLE_VOLLEYS or consults >= IDLE_CONSULTS or moves >= IDLE_MOVES:
            return "stalled"


@contextmanager
def _own_modes() -> Iterator[None]:
    """Torch's default modes: an attacker that stops within `with torch.no_grad():` leaves its own behind."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def _fail(referee: Referee, error: Exception) -> GameRows:
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "site-packages" not in f.filename]
    place = (own or frames)[-1]
    where = f"{place.filename.rpartition('/')[2]}:{place.lineno}"
    said = f"{type(error).__name__}: {error} ({where})"
    games = referee.open.nonzero()[0]
    referee.listener.notes(NoteRows("error", games, referee.ledger.queries[games], [said] * len(games)))
    return referee.finish("error")


def _close(play: Play) -> None:
    """End a generator that may still want to go on; what it says then does not matter any more."""
    with suppress(Exception):
        play.close()
