"""An attacker watched at play: what it sent, what it was told, and what it did wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from arena.conformance.surroundings import AMBIENT, Hang, time_limit
from arena.conformance.tiny_worlds import TinyWorld
from arena.game.openings import Openings, ResourcePool, draw_resources, draw_targets
from arena.game.shard import Job, play_shard
from arena.game.stack import prepare
from arena.messages import failure
from arena.players import Attacker, Defender, Games
from arena.players.attacker import generator_only
from arena.records.pieces import Piece
from arena.records.reports import GameRows
from arena.rules.moves import Answers, Claim, Consult, Move, Note, Play, Resign, Submit, Volley, VolleyError
from arena.rules.outcome import Reason
from arena.rules.threat import Threat
from arena.surroundings import global_generators

FaultKind = Literal["crash", "hang", "stalled", "form", "range", "closed", "seat"]
LONG = 4096
"""`max_rows` where nothing else is tried: no attacker need cut its volleys."""

PATIENCE = 60.0
TOLERANCE = 1e-4
"""How far apart the images of a game may be that is played in another batch: the sums of an attacker may be
rounded otherwise there."""


@dataclass(frozen=True)
class AttackerTrial:
    """What an attacker is put through.

    Attributes:
        where: in words, for a sentence that ends with it.
        games: the images of the world's split `games` that are played, in this order.
        clean: the places (in `games`) whose label is another than the classifier's, so that the game is
            closed before it begins.
        saturated: every value of the images is 0 or 1.
        votes: fresh answers to each final image.
    """

    where: str
    world: TinyWorld
    threat: Threat
    defenders: tuple[Defender, ...] = ()
    games: tuple[int, ...] = (0, 1, 2, 3, 4)
    clean: tuple[int, ...] = ()
    saturated: bool = False
    max_rows: int = LONG
    votes: int = 1

    def openings(self) -> Openings:
        split = self.world.split("games", max(self.games) + 1)
        number = torch.tensor(self.games, device=split.labels.device)
        x0, classes = split.images[number], self.world.classes
        label = split.labels[number]
        if self.saturated:
            x0 = (x0 > 0.5).float()
            label = self.world.classifier(x0).argmax(dim=1)
        wrong = torch.zeros_like(label)
        wrong[list(self.clean)] = 1
        label = (label + wrong) % classes
        key = 7 * number + 3
        return Openings(x0, label, key, draw_targets(self.threat, label, key, classes, seed=1))


@dataclass(frozen=True)
class Fault:
    """Something that an attacker did wrong: a part of a sentence that begins with "it"."""

    kind: FaultKind
    said: str


@dataclass(frozen=True, eq=False)
class Sent:
    """A move as it was sent."""

    kind: str
    x: Tensor | None
    game: Tensor | None
    account: Tensor | None = None
    words: tuple[object, ...] = ()

    def differs(self, other: Sent) -> str | None:
        """In what it differs from another move."""
        if self.kind != other.kind:
            return f"a {self.kind} and a {other.kind}"
        for what, mine, its in (
            ("games", self.game, other.game),
            ("images", self.x, other.x),
            ("accounts", self.account, other.account),
        ):
            if (mine is None) != (its is None) or (
                mine is not None and its is not None and not torch.equal(mine, its)
            ):
                return f"a {self.kind} with other {what}"
        return None if self.words == other.words else f"a {self.kind} that says something else"


@dataclass(eq=False)
class WatchedPlay:
    """What came of a trial.

    Attributes:
        sent: all moves, in order.
        faults: of each kind the first.
        used: the global random generators that the attacker drew from.
        reasons: why the games ended, empty if they did not.
        hits: which games were answered a hit.
        vote: of each game, the share of fresh answers to the final image that are wrong.
    """

    trial: AttackerTrial
    sent: list[Sent] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    hits: list[bool] = field(default_factory=list)
    vote: list[float] = field(default_factory=list)

    def add(self, kind: FaultKind, said: str) -> None:
        if self.fault(kind) is None:
            self.faults.append(Fault(kind, said))

    def fault(self, *kinds: FaultKind) -> Fault | None:
        """The first fault of these kinds."""
        return next((f for f in self.faults if f.kind in kinds), None)

    def rows(self, place: int) -> list[tuple[str, Tensor]]:
        """The images sent for the game at a place, in order, each with the kind of its move."""
        return [
            (move.kind, row)
            for move in self.sent
            if move.x is not None and move.game is not None
            for row in move.x[move.game == place]
        ]


def difference(one: WatchedPlay, other: WatchedPlay) -> str | None:
    """In what two recordings differ first, move by move."""
    for number, (a, b) in enumerate(zip(one.sent, other.sent, strict=False), start=1):
        if (said := a.differs(b)) is not None:
            return f"move {number} is {said}"
    if len(one.sent) != len(other.sent):
        return f"{len(one.sent)} moves and {len(other.sent)}"
    return None


def difference_in_game(one: WatchedPlay, place: int, other: WatchedPlay, its: int) -> str | None:
    """In what the images sent for the game at `place`, and at `its` of another play, differ first."""
    rows, others = one.rows(place), other.rows(its)
    for turn, ((kind, x), (its_kind, its_x)) in enumerate(zip(rows, others, strict=False), start=1):
        if kind != its_kind:
            return f"its image {turn} goes with a {kind} and a {its_kind}"
        if (gap := float((x - its_x).abs().max())) > TOLERANCE:
            return f"its images {turn} are {gap:.2g} apart"
    return None if len(rows) == len(others) else f"{len(rows)} images and {len(others)}"


def watch(
    attacker: Attacker,
    trial: AttackerTrial,
    *,
    seed: int = 0,
    ambient: int = AMBIENT,
    patience: float = PATIENCE,
) -> WatchedPlay:
    """Let `attacker` play a trial.

    Args:
        seed: of its draws.
        ambient: the seed of the global random generators meanwhile.
        patience: seconds of processor time that it may take for one move.
    """
    recording = WatchedPlay(trial)
    openings, world, threat = trial.openings(), trial.world, trial.threat
    owned = threat.resources
    own = world.split("resources", max(40, owned.images)) if owned.images or owned.starts else None
    job = Job(
        stack=prepare(world.classifier, trial.defenders, world),
        openings=openings,
        threat=threat,
        defender_seed=1,
        votes=trial.votes,
        max_rows=trial.max_rows,
        attacker=_Watched(attacker, recording, patience, ambient),
        attacker_seed=seed,
        resources=draw_resources(
            threat,
            ResourcePool(own, world.classifier),
            openings,
            seed=1,
            surrogates=world.surrogates(len(owned.surrogates)),
        ),
        defense={"defenders": [{"name": "none"}]},
        level="games",
    )
    played = _played(job)
    recording.reasons, recording.hits = list(played.reason), played.answered.tolist()
    recording.vote = played.vote.tolist()
    if "stalled" in played.reason:
        recording.add("stalled", "went on with moves of which none was granted, until it was stopped")
    return recording


def _played(job: Job) -> GameRows:
    """How the games of a job end."""
    pieces: list[Piece] = []
    play_shard(job, _Last(pieces))
    games = pieces[-1].games
    assert games is not None
    return games


@dataclass(frozen=True)
class _Last:
    """A recorder that keeps what it is given."""

    pieces: list[Piece]

    def record(self, piece: Piece) -> None:
        self.pieces.append(piece)


class _Watched(Attacker):
    def __init__(self, attacker: Attacker, recording: WatchedPlay, patience: float, ambient: int) -> None:
        self.attacker, self.recording = attacker, recording
        self.patience, self.ambient = patience, ambient

    def play(self, games: Games) -> Play:
        seat = _Seat(games)
        with global_generators(self.ambient) as self.recording.used:
            try:
                yield from self._moves(games, seat)
            except (VolleyError, GeneratorExit):
                raise  # a fault was entered when the move was rejected; an end is none
            except Hang:
                self.recording.add("hang", f"computed for more than {self.patience:g} s without a move")
                raise
            except BaseException as error:
                self.recording.add("crash", f"failed with {failure(error)}")
                raise
            finally:
                self._enter_changes(seat)

    def _moves(self, games: Games, seat: _Seat) -> Play:
        with time_limit(self.patience):
            play = generator_only(self.attacker.play(games))
        state, step = games.state, partial[Move](next, play)
        try:
            while True:
                try:
                    with time_limit(self.patience):
                        move = step()
                except StopIteration:
                    return
                self._enter_changes(seat)
                self._inspect(move, seat)
                try:
                    state = yield move
                except VolleyError as error:
                    self._reject(move, games, error)
                    step = partial(play.throw, error)
                else:
                    seat.told(state)
                    step = partial(play.send, state)
        finally:
            play.close()

    def _inspect(self, move: Move, seat: _Seat) -> None:
        # A Submit or Claim for a closed game is no fault: the answer that led to it may have closed the game.
        recording = self.recording
        if isinstance(move, Volley | Consult) and isinstance(move.game, Tensor) and len(move.game):
            game = move.game.clamp(0, len(seat.open) - 1).long()
            closed = game[~seat.open[game]]
            if len(closed):
                recording.add(
                    "closed",
                    f"asked for game {int(closed[0])} after that game had closed, in its move "
                    f"{len(recording.sent) + 1}",
                )
        if isinstance(move, Volley | Consult | Submit | Claim | Resign | Note):
            recording.sent.append(_copy(move))

    def _reject(self, move: Move, games: Games, error: VolleyError) -> None:
        kind: FaultKind = "form"
        x = getattr(move, "x", None)
        if (
            isinstance(x, Tensor)
            and x.dtype == torch.float32
            and x.shape[1:] == games.x0.shape[1:]
            and len(x)
        ):
            low, high = torch.aminmax(x)
            kind = "form" if float(low) >= 0 and float(high) <= 1 else "range"
        self.recording.add(kind, f"sent a malformed move: {error}")

    def _enter_changes(self, seat: _Seat) -> None:
        if (name := seat.changed()) is not None:
            self.recording.add("seat", f"changed games.{name} in place")


class _Seat:
    """The tensors that an attacker was given, and copies of them."""

    def __init__(self, games: Games) -> None:
        held = games.resources
        own = {"x0": games.x0, "label": games.label, "key": games.key, "target": games.target}
        own |= {f"resources.{name}": getattr(held, name) for name in ("images", "labels", "starts")}
        self.lent = {name: (t, t.clone()) for name, t in own.items() if t is not None}
        self.told(games.state)

    def told(self, state: Answers) -> None:
        for name in ("left", "open", "playing", "banned"):
            tensor = getattr(state, name)
            self.lent[f"state.{name}"] = (tensor, tensor.clone())

    @property
    def open(self) -> Tensor:
        return self.lent["state.open"][1]

    def changed(self) -> str | None:
        """The name of a tensor that is no longer what it was."""
        for name, (lent, copied) in self.lent.items():
            same = torch.equal(lent, copied)
            if not same and not torch.allclose(lent, copied, rtol=0, atol=0, equal_nan=True):
                return name
        return None


def _copy(move: Move) -> Sent:
    x, game, account = (getattr(move, name, None) for name in ("x", "game", "account"))
    words: tuple[object, ...] = ()
    if isinstance(move, Note):
        value = move.value.tolist() if isinstance(move.value, Tensor) else move.value
        words = (move.key, repr(value))  # as text, in which NaN is equal to itself
    elif isinstance(move, Volley):
        words = (move.purpose,)
    elif isinstance(move, Resign):
        words = (move.reason,)
    elif isinstance(move, Consult):
        words = (move.what, move.loss)
    return Sent(type(move).__name__, _clone(x), _clone(game), _clone(account), words)


def _clone(value: object) -> Tensor | None:
    return value.detach().clone() if isinstance(value, Tensor) else None
