"""One game of a log, played again and watched: every image that was sent, and what came back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from arena.game.shard import Job
from arena.log import Log, questions
from arena.log.answers import LoggedGame, LoggedMatch, LoggedQueries, NoteOfGame
from arena.log.shard_rows import shard_of_game
from arena.players.attacker import Attacker
from arena.players.seat import Games
from arena.records.pieces import Piece
from arena.rules.geometry import quantise
from arena.rules.moves import Play, Volley, VolleyError
from arena.rules.outcome import Ints
from arena.running.replaying import Checked, Replayer

MOST_IMAGES, MOST_BYTES = 2000, 2**28
"""Of a game so many images are kept at most, evenly over its queries, and so many bytes of them."""

Pixels = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Film:
    """A game, as it went.

    Attributes:
        game, match, notes: as in the log.
        rows: its queries in order: all that were charged where it was played again, else those logged.
        clean: [C,H,W], the clean image as the service sees it; None: not played again.
        images: [f,C,H,W] that were sent, as the service saw them; at: [f] the turns of these, ascending.
        checked: the comparison of its shard with the log; None: not played again. why: then the reason.
    """

    game: LoggedGame
    match: LoggedMatch
    notes: Sequence[NoteOfGame]
    rows: LoggedQueries
    clean: Pixels | None = None
    images: Pixels | None = None
    at: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    checked: Checked | None = None
    why: str = ""

    @property
    def distance(self) -> NDArray[np.float64]:
        """[n] each query's distance from the clean image in the threat's norm."""
        return self.rows.linf if self.match.info.threat.norm == "linf" else self.rows.l2


def logged_film(log: Log, game_id: int, why: str) -> Film:
    """What a log alone knows of a game.

    Args:
        why: it was not played again.

    Raises:
        LogError: if no finished shard has this game.
    """
    game = questions.game(log, game_id)
    match = questions.match(log, game.match_id)
    rows = questions.transcript(log, game_id)
    return Film(game, match, questions.notes_of_game(log, game_id), rows, why=why)


def film(replayer: Replayer, game_id: int) -> Film:
    """Play a game again, with its whole shard, as attackers play; and compare the shard with the log.

    Raises:
        LogError: if no finished shard has this game.
        ReplayError, ScenarioError, ClassifierError: if it cannot be played here.
    """
    log = replayer.log
    known = logged_film(log, game_id, "")
    shard, heard = shard_of_game(log, game_id), _OneGame(known.game.place)
    camera = _Camera(known.game.place, _stride(known.match))
    checked = replayer.check(shard, camera.watch, heard)
    return replace(
        known,
        rows=heard.rows(),
        clean=camera.clean,
        images=camera.images(),
        at=np.array(camera.at, np.int64),
        checked=checked,
    )


def _stride(match: LoggedMatch) -> int:
    """Of how many queries one image is kept."""
    most = max(2, min(MOST_IMAGES, MOST_BYTES // (4 * math.prod(match.info.image_shape))))
    return -(-match.info.threat.budget // most)


class _Camera:
    """Keeps the images that are sent in one game: every so many, and the last."""

    def __init__(self, place: int, stride: int) -> None:
        self.place, self.stride = place, stride
        self.at: list[int] = []
        self.clean: Pixels | None = None
        self._kept: list[Pixels] = []
        self._last: tuple[int, Pixels] | None = None
        self._turn = 0

    def watch(self, job: Job) -> Job:
        """The job with its attacker before the camera; the clean image is known from now on."""
        rules = job.threat.quantisation
        self.quantisation = rules
        self.clean = _pixels(quantise(job.openings.x0[self.place : self.place + 1], rules))[0]
        return replace(job, attacker=_Watched(job.attacker, self))

    def take(self, images: Pixels) -> None:
        """Images [m,C,H,W] that were charged, in order."""
        for image in images:
            self._turn += 1
            self._last = self._turn, image
            if self._turn % self.stride == 1 or self.stride == 1:
                self.at.append(self._turn)
                self._kept.append(image)

    def images(self) -> Pixels | None:
        """All that was kept; None if nothing was sent."""
        if self._last is not None and self.at[-1] != self._last[0]:
            self.at.append(self._last[0])
            self._kept.append(self._last[1])
        return np.stack(self._kept) if self._kept else None


@dataclass(frozen=True, eq=False)
class _Watched(Attacker):
    """Plays what another plays, before a camera: nothing that is played differs."""

    of: Attacker
    camera: _Camera

    def play(self, games: Games) -> Play:
        play = self.of.play(games)
        try:
            move = next(play)
            while True:
                mine, images = None, None
                if type(move) is Volley and isinstance(move.x, torch.Tensor):
                    mine, images = self._mine(move)
                try:
                    answers = yield move
                except VolleyError as error:
                    move = play.throw(error)
                    continue
                if mine is not None and images is not None:
                    charged = (answers.answered | answers.refused)[mine]
                    self.camera.take(images[charged.cpu().numpy()])
                move = play.send(answers)
        except StopIteration:
            return

    def _mine(self, volley: Volley) -> tuple[Any, Pixels | None]:
        """Which rows are of the game, and their images, copied before anybody can change them."""
        try:
            mine = (volley.game == self.camera.place).nonzero().flatten()
            return mine, _pixels(quantise(volley.x[mine], self.camera.quantisation))
        except (RuntimeError, IndexError, TypeError, AttributeError):  # malformed: the Referee says so
            return None, None


class _OneGame:
    """A recorder that keeps one game's queries."""

    _kinds: ClassVar[Mapping[str, type[np.generic]]] = {
        **dict.fromkeys(("turn", "account", "label"), np.int64),
        **dict.fromkeys(("refused", "flagged", "hit"), np.bool_),
        **dict.fromkeys(("margin", "l2", "linf", "margin_base"), np.float64),
    }

    def __init__(self, place: int) -> None:
        self.place = place
        self._purposes: list[str] = []
        self._columns: dict[str, list[NDArray[Any]]] = {name: [] for name in self._kinds}

    def record(self, piece: Piece) -> None:
        for rows in piece.queries:
            mine = np.flatnonzero(rows.game == self.place)
            self._purposes += [rows.purpose] * len(mine)
            for name, parts in self._columns.items():
                column = getattr(rows, name)
                parts.append(np.full(len(mine), np.nan) if column is None else column[mine])

    def rows(self) -> LoggedQueries:
        """They, in order."""
        columns: dict[str, Any] = {
            name: np.concatenate([np.zeros(0, kind), *self._columns[name]]).astype(kind)
            for name, kind in self._kinds.items()
        }
        return LoggedQueries(purpose=self._purposes, **columns)


def _pixels(images: torch.Tensor) -> Pixels:
    return np.array(images.detach().to(torch.float32).cpu().numpy())
