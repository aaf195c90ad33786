"""An attacker's generator driven against whoever hosts its games: a Referee, an environment, a rehearsal."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import torch

from arena.game.blame import AttackerError, LimitError
from arena.game.checks import Checks, Remark, word
from arena.game.limits import Meter
from arena.interruptions import is_the_users, raise_pending
from arena.modes import back_in, modes, own_modes
from arena.players.attacker import Attacker, generator_only
from arena.players.seat import Games
from arena.rules.limits import USUAL, Limits
from arena.rules.losses import Loss
from arena.rules.moves import Answers, Claim, Consult, Move, Note, Play, Resign, Submit, Volley, VolleyError
from arena.rules.outcome import Bools, Reason
from arena.surroundings import stop_timers, timers

IDLE_VOLLEYS = 10
"""Volleys in a row without a granted row after which an attacker is stopped (`stalled`)."""
IDLE_MOVES = 1000
"""Moves of other kinds, consults apart, in a row after which an attacker is stopped (`stalled`)."""
IDLE_CONSULTS = 1_000_000
"""Consults in a row after which an attacker is stopped: a white box makes many before its only query."""


Served = Submit | Claim | Resign | Remark | Consult
"""A move that is no volley as it is served: checked, and of tensors that nobody else holds."""


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

    def own(self, move: object) -> Served:
        """A move that is no volley as it is served.

        Raises:
            VolleyError: if it is malformed, or not a move.
        """
        kind = type(move)
        if kind is Submit or kind is Claim:
            return kind(*self.checks.whole(*_of(move, "x", "game"), once=True))
        if kind is Resign:
            game, reason = _of(move, "game", "reason")
            word("a reason to resign", reason, ("resigned", "no-start"))
            return Resign(self.checks.games(game), reason)
        if kind is Consult:
            x, game, what, loss = _of(move, "x", "game", "what", "loss")
            word("what to consult", what, ("detector", "gradient"))
            word("a loss", loss, get_args(Loss))
            return Consult(*self.checks.whole(x, game), what, loss)
        if isinstance(move, Note) and kind is Note:
            return self.checks.note(move)
        raise VolleyError(
            f"a move is a Volley, Submit, Claim, Resign, Note or Consult; found {kind.__name__}"
        )

    def serve(self, move: Move) -> Answers:
        """Answer any move.

        Raises:
            VolleyError: if it is malformed, not a move, or not served here; nothing is charged then.
        """
        return self.ask(move) if type(move) is Volley else self.reply(self.own(move))

    def reply(self, served: Served) -> Answers:
        """Answer a move that is no volley, as `own` gave it."""
        if isinstance(served, Consult):
            return self.consult(served)
        if isinstance(served, Submit):
            self.submit(served)
        elif isinstance(served, Claim):
            self.claim(served)
        elif isinstance(served, Resign):
            self.resign(served)
        else:
            self.note(served)
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

    def note(self, remark: Remark) -> None:
        """Hear a remark; a host that keeps no log has no use for it."""
        return

    def consult(self, move: Consult) -> Answers:
        """Serve an insider's evaluation, where the host has one to offer."""
        raise VolleyError("no insider's evaluations are served here")


def drive(attacker: Attacker, seat: Games, host: Host, limits: Limits = USUAL) -> Reason:
    """Let `attacker` play from `seat`; the reason for which its games that are still open are to end.

    Whatever it raises is its failure, but for the user's wish to stop.

    Args:
        limits: of what it may take.

    Raises:
        AttackerError: if the attacker's own code fails or meets a limit.
    """
    with own_modes(), torch.inference_mode(False):
        try:
            play = generator_only(attacker.play(seat))
        except BaseException as error:
            if is_the_users(error):
                raise
            raise AttackerError(error) from error
        try:
            return converse(play, host, Meter(limits))
        finally:
            _close(play)


def converse(play: Play, host: Host, meter: Meter) -> Reason:
    """Serve an attacker's moves until it ends; the reason for which its open games are to end.

    What it sets in torch or numpy is its own: it is put aside while a move is served. A timer is stopped.

    Raises:
        AttackerError: if the attacker's code fails or meets a limit.
    """
    home, ticking = modes(), timers()
    step: Callable[[], Move] = partial(next, play)
    volleys = consults = moves = 0
    while True:
        began = time.monotonic()
        try:
            move = step()
        except StopIteration:
            return "resigned"
        except BaseException as error:
            if is_the_users(error):
                raise
            raise AttackerError(error) from error
        if timers() != ticking:
            stop_timers(ticking)
        raise_pending()
        if (met := meter.moved(time.monotonic() - began)) is not None:
            raise AttackerError(LimitError(met))
        kind = type(move)
        if not host.open.any() and kind is not Note and kind is not Resign:
            return "resigned"
        try:
            if modes() == home:
                reply = host.serve(move)
            else:
                with back_in(home):
                    reply = host.serve(move)
        except VolleyError as error:
            # Without the host's own frames, so that the note of an uncaught one names the attacker's line.
            step, volleys = partial(play.throw, error.with_traceback(None)), volleys + 1
        else:
            step = partial(play.send, reply)
            granted = kind is Volley and host.granted > 0
            volleys = 0 if granted else volleys + (kind is Volley)
            consults = 0 if granted else consults + (kind is Consult)
            moves = 0 if granted else moves + (kind is not Consult)
            meter.served(idle=not granted and kind is not Consult)
        if volleys >= IDLE_VOLLEYS or consults >= IDLE_CONSULTS or moves >= IDLE_MOVES:
            return "stalled"


def _of(move: object, *names: str) -> list[Any]:
    """The fields of a move; None where one was taken away."""
    return [getattr(move, name, None) for name in names]


def _close(play: Play) -> None:
    """End a generator that may still want to go on; what it says then does not matter any more."""
    try:
        play.close()
    except BaseException as error:
        if is_the_users(error):
            raise
