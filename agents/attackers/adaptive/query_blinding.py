"""query-blinding: send every query after a random change that should keep its label."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from agents.attackers.parts.claims import REPEAT, inside_ball
from agents.attackers.parts.ranks import rank_within
from agents.attackers.parts.wrapping import Around
from agents.parameters import check_within
from arena import draws
from arena.players import Answers, Asking, Attacker, Claim, Games, Move, Play, Submit, Volley, relay

CONFIRM = "confirm"
"""The purpose of the queries that are sent as they are."""


@dataclass(frozen=True)
class QueryBlinding(Around):
    """Query blinding (Chen, Carlini and Wagner, SPAI 2020) around any attack.

    In place of x it sends b(x), b drawn anew for each query: turned, cropped and shifted, made brighter or
    darker, with noise on top. The attack inside takes f(b(x)) for f(x). It hides that queries resemble each
    other as far as the detector's measure of resemblance is not blind to b itself, and pays with answers
    that are wrong wherever b changes the label.

    Hits and distances are judged at what was sent, and b(x) lies far outside of any small ball: what is to
    count has to be sent, or handed in, as it is. Under objective `first` the first image of a game in a
    volley that lies in the ball and was answered wrong is asked again unchanged (purpose "confirm"), and its
    own answer is the one that the attack inside hears. An image that the attack hands in is asked so before,
    and not handed in if that answer is right. One that it claims, unchanged in either case, is asked where
    answers are facts, since claims count for nothing there. Repeats of what it stands by are sent unchanged.

    Attributes:
        of: the attack inside.
        shift: the image is moved by up to this share of its sides.
        rotation: it is turned by up to so many degrees, about its centre.
        crop: up to this share of each side is cropped away, and the rest enlarged.
        brightness: up to so much is added to all pixels.
        noise: standard deviation of the noise.
    """

    of: Attacker
    shift: float = 0.1
    rotation: float = 10.0
    crop: float = 0.1
    brightness: float = 0.1
    noise: float = 0.02

    def __post_init__(self) -> None:
        check_within(self, 0, 0.5, "shift", "crop")
        check_within(self, 0, 180, "rotation")
        check_within(self, 0, 1, "brightness", "noise")

    def play(self, games: Games) -> Play:
        asked = torch.zeros_like(games.label)

        def answer(move: Move) -> Asking:
            if isinstance(move, Volley):
                return (yield from self.ask(games, asked, move))
            if isinstance(move, Submit) or (isinstance(move, Claim) and games.answers_are_facts):
                return (yield from self.stand(games, move))
            games.state = yield move
            return games.state

        yield from relay(self.of.play(games), answer)

    def ask(self, games: Games, asked: Tensor, move: Volley) -> Asking:
        """A volley, blinded; `asked` [G] counts the queries that each game has had."""
        if move.purpose == REPEAT:
            games.state = yield move
            return games.state
        game = move.game
        turn = asked[game] + rank_within(game)
        asked.scatter_add_(0, game, torch.ones_like(game))
        games.state = answers = yield replace(move, x=self.blind(games, move.x, game, turn))
        if games.threat.objective != "first":
            return answers
        rows = to_confirm(games, move.x, answers)
        if not len(rows):
            return answers
        account = None if move.account is None else move.account[rows]
        found = yield from games.ask(move.x[rows], game[rows], CONFIRM, account)
        return in_place(answers, rows, found)

    def stand(self, games: Games, move: Submit | Claim) -> Asking:
        """Ask what is handed in or claimed as it is, and leave out what was answered right."""
        rows = games.state.open[move.game].nonzero().squeeze(1)
        if not len(rows):
            games.state = yield move
            return games.state
        x, i = move.x[rows], move.game[rows]
        answers = yield from games.ask(x, i, CONFIRM)
        rows = (games.state.open[i] & ~(answers.answered & ~games.wrong(answers))).nonzero().squeeze(1)
        if isinstance(move, Submit):
            return (yield from games.submit(x[rows], i[rows]))
        return (yield from games.claim(x[rows], i[rows]))

    def blind(self, games: Games, x: Tensor, game: Tensor, turn: Tensor) -> Tensor:
        """b(x) [n,C,H,W] of images `x` of games `game` [n], the `turn`-th query [n] of each."""
        seed, key = draws.derive(games.seed, "blinding"), games.key[game]
        u = 2 * draws.uniform(seed, key, turn, (5,)) - 1
        if self.rotation or self.crop or self.shift:
            angle, size = torch.deg2rad(u[:, 0] * self.rotation), 1 - self.crop * u[:, 1].abs()
            x = resample(x, angle, size, 2 * self.shift * u[:, 2], 2 * self.shift * u[:, 3])
        x = x + self.brightness * u[:, 4].view(-1, 1, 1, 1)
        if self.noise:
            x = x + self.noise * draws.normal(seed, key, turn, x.shape[1:], stream=1)
        return x.clamp_(0, 1)


def to_confirm(games: Games, x: Tensor, answers: Answers) -> Tensor:
    """The first row of each open game that was answered wrong and whose image of `x` [n,C,H,W] is in the
    ball."""
    game = answers.game
    inside = inside_ball(games, x, game)
    rows = (games.wrong(answers) & inside & games.state.open[game]).nonzero().squeeze(1)
    return rows[rank_within(game[rows]) == 0]


def in_place(answers: Answers, rows: Tensor, found: Answers) -> Answers:
    """`answers` with those `found` to the rows `rows` [m] in place of theirs, and the state after these."""

    def merged(name: str) -> Tensor:
        column: Tensor = getattr(answers, name).clone()
        column[rows] = getattr(found, name)
        return column

    return replace(
        found,
        game=answers.game,
        label=merged("label"),
        scores=None if answers.scores is None else merged("scores"),
        answered=merged("answered"),
        refused=merged("refused"),
    )


def resample(x: Tensor, angle: Tensor, size: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Images `x` [n,C,H,W] turned by `angle` [n] in radians about their centres, of which a part of relative
    `size` [n] is seen, moved by `right` and `down` [n] in half sides.

    Bilinear; beyond the border as at it.
    """
    height, width = x.shape[2:]
    rows = ((torch.arange(height, device=x.device) + 0.5) * 2 / height - 1).view(1, -1, 1) - _rows(down)
    columns = ((torch.arange(width, device=x.device) + 0.5) * 2 / width - 1).view(1, 1, -1) - _rows(right)
    # Element by element: a product of matrices may sum in an order that depends on the batch. In pixels, so
    # that images which are no squares are not sheared.
    cos, sin, aspect = _rows(angle.cos() * size), _rows(angle.sin() * size), height / width
    grid = torch.stack([cos * columns + sin * aspect * rows, cos * rows - sin / aspect * columns], dim=3)
    return grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _rows(value: Tensor) -> Tensor:
    """[n] as [n,1,1]."""
    return value.view(-1, 1, 1)
