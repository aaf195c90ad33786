"""An attacker that plays in a process of its own, over the same moves."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from arena.game.blame import Told
from arena.isolation.children import SECONDS, Child
from arena.isolation.moves import read_move, room_for, written_answers, written_seat
from arena.isolation.wire import Garbled, Message
from arena.messages import in_short
from arena.players.attacker import Attacker, Needs
from arena.players.seat import Games
from arena.players.stand_in import StandIn
from arena.rules.limits import USUAL, Limits
from arena.rules.moves import Play, VolleyError


@dataclass(frozen=True)
class IsolatedAttacker(Attacker):
    """`of`, with all attackers inside it, in one process of its own that holds its seat and nothing else.

    It plays on the CPU, whatever the classifier computes on.

    Attributes:
        modules: those that `of` and the attackers inside it are written in.
        limits: what its process may take.
    """

    of: Attacker
    modules: Sequence[str]
    limits: Limits = USUAL

    @property
    def needs(self) -> Needs:
        return self.of.needs

    @property
    def budget_factor(self) -> int:
        return self.of.budget_factor

    def play(self, games: Games) -> Play:
        """Begin the process, which builds the attacker, and hand it its seat; the rest is a generator."""
        child = Child(self.modules, self.limits)
        try:
            child.ask(_packed(self.of), "building the attacker", SECONDS)
        except BaseException:
            child.__exit__()
            raise
        return _relayed(child, games)


def _relayed(child: Child, games: Games) -> Play:
    with child:
        child.wire.room = room_for(len(games), games.max_rows, games.x0.shape[1:])
        networks = [_network(one) for one in games.resources.surrogates]
        told, doing = written_seat(games, networks), "the first move"
        while True:
            move = child.ask(told, doing)
            if move.kind == "end":
                return
            try:
                read = read_move(move, games.x0.device)
            except Garbled as error:
                raise Told(f"its process sent {error}") from None
            doing = "a move"
            try:
                told = written_answers((yield read))
            except VolleyError as error:
                told = Message("malformed", {"said": str(error)})


def _packed(attacker: Attacker) -> Message:
    if isinstance(attacker, StandIn):
        return Message("attacker", {"spec": json.loads(attacker.spec)})
    return Message("attacker", {}, [_pickled(attacker, "it")])


def _network(surrogate: nn.Module) -> Tensor:
    """A reference network, on the CPU: the process loads nothing, and may read no weights."""
    return _pickled(copy.deepcopy(surrogate).cpu(), "its reference network")


def _pickled(part: Any, what: str) -> Tensor:
    try:
        content = bytearray(pickle.dumps(part))
    except Exception as error:  # pickle raises whatever an agent's parts raise
        raise Told(f"{what} cannot be sent to a process of its own: {in_short(error)}") from error
    return torch.frombuffer(content, dtype=torch.uint8)
