"""What runs in an agent's process, once that is locked in: the agent, and its end of the wire."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from arena.isolation.moves import read_answers, read_seat, room_for, written_move
from arena.isolation.wire import ANY, Message, Wire
from arena.messages import failure
from arena.modes import back_in, modes, own_modes
from arena.players.attacker import Attacker, generator_only
from arena.players.parameters import parameters
from arena.players.registry import AgentError, build_attacker, name_of
from arena.players.seat import Games
from arena.rules.moves import Move, VolleyError
from arena.surroundings import own_surroundings


def talk(channel: int) -> None:
    """Serve the arena over a descriptor until it closes it."""
    wire = Wire(channel, ANY)
    message = wire.receive()
    try:
        _ROLES[message.kind](wire, message)
    except BaseException as error:  # the agent's own, whatever it is: the arena is told
        wire.send(failed(error))


def failed(error: BaseException) -> Message:
    return Message("failed", {"said": failure(error)})


def agent_of(message: Message) -> Any:
    """The agent that a message of the arena's names: as it was sent, or by its specification."""
    if message.tensors:
        return pickle.loads(message.tensors[0].numpy().tobytes())
    return build_attacker(message.values["spec"])


def _play(wire: Wire, message: Message) -> None:
    attacker = agent_of(message)
    wire.send(Message("ready"))
    seat = read_seat(wire.receive())
    with own_surroundings(seat.seed), own_modes(), torch.inference_mode(False):
        _play_from(wire, attacker, seat)


def _play_from(wire: Wire, attacker: Attacker, seat: Games) -> None:
    """Let an attacker play from a seat: as `arena.game.driver` does, but over the wire."""
    home, room = modes(), room_for(len(seat), seat.max_rows, seat.x0.shape[1:])
    play = generator_only(attacker.play(seat))
    step: Callable[[], Move] = partial(next, play)
    while True:
        try:
            move = step()
        except StopIteration:
            wire.send(Message("end"))
            return
        if modes() == home:
            reply = _sent(wire, move, room)
        else:
            with back_in(home):
                reply = _sent(wire, move, room)
        if reply.kind == "malformed":
            step = partial(play.throw, VolleyError(reply.values["said"]))
        else:
            step = partial(play.send, read_answers(reply))


def _sent(wire: Wire, move: Move, room: Any) -> Message:
    wire.send(written_move(move, room))
    return wire.receive()


def _describe(wire: Wire, message: Message) -> None:
    """Say of an attacker what there is to know of it before it plays."""
    try:
        attacker = build_attacker(message.values["spec"])
    except AgentError as error:
        wire.send(Message("refused", {"said": str(error)}))
        return
    declared = {
        "needs": asdict(attacker.needs),
        "budget_factor": attacker.budget_factor,
        "parameters": json.loads(json.dumps(parameters(attacker), default=str)),
        "inside": [name_of(value) for value in vars(attacker).values() if isinstance(value, Attacker)],
    }
    wire.send(Message("described", declared))


def _guard(wire: Wire, message: Message) -> None:
    """A defender's part; what it needs is imported where it is needed."""
    from arena.isolation import guards

    roles = {"describe defender": guards.describe, "prepare": guards.prepare, "defend": guards.defend}
    roles[message.kind](wire, message)


_ROLES: dict[str, Callable[[Wire, Message], None]] = {
    "attacker": _play,
    "describe attacker": _describe,
    "describe defender": _guard,
    "prepare": _guard,
    "defend": _guard,
}
