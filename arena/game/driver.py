"""An attacker's generator driven against whoever hosts its games: a Referee, an environment, a rehearsal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import torch

from arena.game.checks import Checks, word
from arena.modes import in_plain_scope, own_modes
from arena.players.attacker import Attacker, generator_only
from arena.players.seat import Games
from arena.rules.moves import Answers, Claim, Consult, Move, Note, Play, Resign, Submit, Volley, VolleyError
from arena.rules.outcome import Bools, Reason

IDLE_VOLLEYS = 10
"""Volleys in a row without a granted row after which an attacker is stopped (`stalled`)."""
IDLE_MOVES = 1000
"""Moves of other kinds, consults apart, in a row after which an attacker is stopped (`stalled`)."""
IDLE_CONSULTS = 1_000_000
"""Consults in a row after which an attacker is stopped: a white box makes many before its only query."""


class Host(ABC):
    """Who serves an attacker's moves. What is malformed is rejected here, alike by all hosts.

    Those that override `ask` check the volley themselves, by `checks.volley` or so that its values are read
    with the answers.

    Attributes:
        checks: what moves must be like.
        granted: how many rows of the last volley were charged.
    """

    checks: Checks
    granted: int = 0

    @property
    @abstractmethod
    def open(self) -> Bools:
        """[G] on the host: the games that go on."""

    @abstractmethod
    def state(self) -> Answers:
        """How the games stand, without rows."""

    @abstractmethod
    def ask(self, volley: Volley) -> Answers:
        """Answer a volley.

        Raises:
            VolleyError: if it is malformed; nothing is charged then.
        """

    def check(self, move: Move) -> None:
        """Check a move that is not a volley; of a volley nothing, since `ask` does.

        Raises:
            VolleyError: if it is malformed, or not a move.
        """
        if isinstance(move, Submit | Claim):
            self.checks.whole(move.x, move.game, once=True)
        elif isinstance(move, Resign):
            word("a reason to resign", move.reason, ("resigned", "no-start"))
            self.checks.games(move.game)
        elif isinstance(move, Note):
            self.checks.games(move.game)
            self.checks.note(move)
        elif isinstance(move, Consult):
            word("what to consult", move.what, ("detector", "gradient"))
            word("a loss", move.loss, ("margin", "cross-entropy"))
        elif not isinstance(move, Volley):
            raise VolleyError(
                f"a move is a Volley, Submit, Claim, Resign, Note or Consult; found {type(move).__name__}"
            )

    def serve(self, move: Move) -> Answers:
        """Answer any move.

        Raises:
            VolleyError: if it is malformed, not a move, or not served here; nothing is charged then.
        """
        self.check(move)
        if isinstance(move, Volley):
            return self.ask(move)
        if isinstance(move, Consult):
            return self.consult(move)
        if isinstance(move, Submit):
            self.submit(move)
        elif isinstance(move, Claim):
            self.claim(move)
        elif isinstance(move, Resign):
            self.resign(move)
        else:
            self.note(move)
        return self.state()

    def submit(self, move: Submit) -> None:
        """Take the final images of games, which end."""
        raise VolleyError("nothing is handed in here")

    @abstractmethod
    def resign(self, move: Resign) -> None:
        """End games."""

    def claim(self, move: Claim) -> None:
        """Hear what the attacker stands by; a host that judges nothing has no use for it."""
        return

    def note(self, move: Note) -> None:
        """Hear a remark; a host that keeps no log has no use for it."""
        return

    def consult(self, move: Consult) -> Answers:
        """Serve an insider's evaluation, where the host has one to offer."""
        raise VolleyError("no insider's evaluations are served here")


class AttackerError(Exception):
    """An attacker's own code failed."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def drive(attacker: Attacker, seat: Games, host: Host) -> Reason:
    """Let `attacker` play from `seat`; the reason for which its games that are still open are to end.

    Raises:
        AttackerError: if the attacker's own code fails.
    """
    try:
        play = generator_only(attacker.play(seat))
    except Exception as error:
        raise AttackerError(error) from error
    # An attacker that stops within `with torch.no_grad():` leaves its own behind: these end it.
    with own_modes(), torch.inference_mode(False), torch.enable_grad():
        try:
            return converse(play, host)
        finally:
            _close(play)


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
            if in_plain_scope():
                reply = host.serve(move)
            else:
                with own_modes():
                    reply = host.serve(move)
        except VolleyError as error:
            # Without the host's own frames, so that the note of an uncaught one names the attacker's line.
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


def _close(play: Play) -> None:
    """End a generator that may still want to go on; what it says then does not matter any more."""
    with suppress(Exception):
        play.close()
