"""A plane with known least distances, an attacker that runs one procedure, and a scripted referee.

The scripted referee plays by the rules of docs/design.md, D2, row by row in plain Python, around a function.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import arena
from agents.attackers.parts.dct import from_frequencies, to_frequencies
from arena.game.blame import AttackerError
from arena.game.checks import Checks, Remark
from arena.game.driver import Host, drive
from arena.players import Attacker, Defender, Games, Needs, Play, Response, Rows
from arena.players.defender import Memory
from arena.rules.moves import Answers, Claim, Resign, Submit, Volley
from arena.rules.outcome import Bools
from arena.rules.threat import TOLERANCE, Threat


class ScriptedReferee(Host):
    """Plays an attacker against `model(x [n,C,H,W], game [n], turn [n]) -> logits [n,K]`.

    It is driven as the real one is, by the same checks of moves; the rules are its own.

    Attributes:
        asked: for each game, its queries in order: (x, purpose, logits).
        volleys: the number of rows in each volley; hits: for each game, the turns that were hits.
        notes: (key, game, queries so far); submitted: {game: x}; claims: {game: [x]}.
    """

    def __init__(
        self,
        model: Callable[[Tensor, Tensor, Tensor], Tensor],
        x0: Tensor,
        label: Tensor,
        threat: Threat,
        *,
        target: Tensor | None = None,
        key: Tensor | None = None,
        seed: int = 0,
        max_rows: int = 4096,
        refuse: Callable[[int, int], bool] = lambda game, turn: False,
        facts: bool = True,
    ) -> None:
        self.model, self.x0, self.label, self.threat, self.target = model, x0, label, threat, target
        self.refuse = refuse
        self.checks = Checks(x0, threat.accounts, max_rows)
        games = len(x0)
        self.asked: list[list[tuple[Tensor, str, Tensor]]] = [[] for _ in range(games)]
        self.hits: list[list[int]] = [[] for _ in range(games)]
        self._open = [True] * games
        self.volleys: list[int] = []
        self.notes: list[tuple[str, int, int]] = []
        self.submitted: dict[int, Tensor] = {}
        self.claims: dict[int, list[Tensor]] = {}
        classes = model(x0[:1], torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.int64)).shape[1]
        self.seat = Games(
            x0.clone(),
            label,
            threat,
            classes=classes,
            state=self.state(),
            target=target,
            key=key,
            seed=seed,
            max_rows=max_rows,
            answers_are_facts=facts,
        )

    def play(self, attacker: Any) -> ScriptedReferee:
        try:
            drive(attacker, self.seat, self)
        except AttackerError as failure:
            raise failure.error from None
        return self

    @property
    def open(self) -> Bools:
        return np.array(self._open)

    def submit(self, move: Submit) -> None:
        self.submitted.update(zip(move.game.tolist(), move.x.clone(), strict=True))
        self._end(move.game)

    def claim(self, move: Claim) -> None:
        for game, x in zip(move.game.tolist(), move.x.clone(), strict=True):
            self.claims.setdefault(game, []).append(x)

    def resign(self, move: Resign) -> None:
        self._end(move.game)

    def note(self, remark: Remark) -> None:
        self.notes += [(remark.key, game, len(self.asked[game])) for game in remark.games.tolist()]

    def _end(self, games: Tensor) -> None:
        for game in games.tolist():
            self._open[game] = False

    def ask(self, volley: Volley) -> Answers:
        volley = self.checks.volley(volley)
        x, n = volley.x, len(volley.x)
        game = volley.game.tolist()
        turn, before = [], Counter[int]()
        for g in game:
            before[g] += 1
            turn.append(len(self.asked[g]) + before[g])
        logits = self.model(x, volley.game, torch.tensor(turn))
        delta = (x - self.x0[volley.game]).flatten(1)
        order = 2 if self.threat.norm == "l2" else torch.inf
        inside = torch.linalg.vector_norm(delta, ord=order, dim=1) <= self.threat.epsilon + TOLERANCE
        label = torch.full((n,), -1)
        scores = torch.full_like(logits, torch.nan)
        answered, refused = torch.zeros(2, n, dtype=torch.bool)
        self.granted = 0
        for row, g in enumerate(game):
            if not self._open[g]:
                continue
            self.granted += 1
            self.asked[g].append((x[row], volley.purpose, logits[row]))
            if self.refuse(g, len(self.asked[g])):
                refused[row] = True
            else:
                answered[row], label[row], scores[row] = True, logits[row].argmax(), logits[row]
                wins = label[row] != self.label[g] if self.target is None else label[row] == self.target[g]
                if wins and inside[row]:
                    self.hits[g].append(len(self.asked[g]))
                    self._open[g] = self.threat.objective != "first"
            if len(self.asked[g]) == self.threat.budget:
                self._open[g] = False
        self.volleys.append(n)
        return self._standing(volley.game, label, scores, answered, refused)

    def state(self) -> Answers:
        return self._standing()

    def _standing(self, *rows: Tensor) -> Answers:
        none = torch.zeros(0, dtype=torch.int64)
        is_open = torch.tensor(self._open)
        left = torch.tensor([self.threat.budget - len(asked) for asked in self.asked])
        game, label, scores, answered, refused = rows or (none, none, None, none.bool(), none.bool())
        playing = is_open.nonzero().squeeze(1)
        banned = torch.zeros(len(is_open), self.threat.accounts, dtype=torch.bool)
        return Answers(game, label, scores, answered, refused, left, is_open, playing, banned)

    def queries(self, game: int) -> Tensor:
        """The queries [q,C,H,W] of a game."""
        return torch.stack([x for x, _, _ in self.asked[game]])

    def purposes(self, game: int) -> list[str]:
        return [purpose for _, purpose, _ in self.asked[game]]

    def margins(self, game: int) -> list[float]:
        """The margins of the answers to a game's queries."""
        y = int(self.label[game])
        found = []
        for _, _, z in self.asked[game]:
            others = torch.cat([z[:y], z[y + 1 :]])
            found.append(float(z[y] - others.max()))
        return found


@pytest.fixture
def referee() -> type[ScriptedReferee]:
    return ScriptedReferee


def linear_model(shape: tuple[int, ...], classes: int = 2, seed: int = 0) -> Callable[..., Tensor]:
    """Logits W (x - 1/2), W standard normal; `model.weight` is W [K,C,H,W]."""
    weight = torch.randn(classes, *shape, generator=torch.Generator().manual_seed(seed))

    def model(x: Tensor, game: Tensor, turn: Tensor) -> Tensor:
        return ((x - 0.5).unsqueeze(1) * weight).flatten(2).sum(dim=2)

    model.weight = weight  # type: ignore[attr-defined]
    return model


@pytest.fixture
def linear() -> Callable[..., Any]:
    return linear_model


@pytest.fixture
def images() -> Callable[..., Tensor]:
    """images(G, shape, seed): uniform on [low, high]."""

    def make(
        count: int, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0, seed: int = 1
    ) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    return make


@pytest.fixture(scope="session")
def whole_games() -> Callable[..., list[tuple[Tensor, Tensor]]]:
    """whole_games(attacker, threat, shape): queries [q,C,H,W] and x0 of two games played to the end."""

    def play(attacker: Any, threat: Threat, shape: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
        x0 = (
            torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)).mul_(1.4).sub_(0.2).clamp_(0, 1)
        )
        table = ScriptedReferee(linear_model(shape), x0, torch.zeros(2, dtype=torch.int64), threat)
        table.play(attacker)
        return [(table.queries(game), x0[game]) for game in range(2)]

    return play


class FlatBoundary(torch.nn.Module):
    """Class 1 where w (x - 1/2) > b; `least` has the least distances of `images` from it, in both norms.

    With `low`, w has no frequencies but the lowest low x low of each channel.
    """

    def __init__(self, shape: Sequence[int], games: int, nearest: float = 0.3, low: int = 0, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.w = torch.randn(shape, generator=generator, dtype=torch.float64)
        if low:
            z = to_frequencies(self.w.float(), low, low)
            self.w = from_frequencies(z, *shape[1:]).double()
        self.images = 0.45 + 0.1 * torch.rand(games, *shape, generator=generator)
        f = self.side(self.images)
        self.b = f.max() + nearest * self.w.norm()
        self.least = {"l2": (self.b - f) / self.w.norm(), "linf": (self.b - f) / self.w.abs().sum()}

    def side(self, x: Tensor) -> Tensor:
        return ((x.double() - 0.5) * self.w).flatten(1).sum(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        f = self.side(x) - self.b
        return torch.stack([torch.zeros_like(f), 1e5 * f], dim=1).float()

    def answer(self, x: Tensor, game: Tensor, turn: Tensor) -> Tensor:
        """As a ScriptedReferee asks."""
        return self(x)

    def play(self, attacker: Any, defender: Any = "none", norm: str = "l2", budget: int = 1000, **more: Any):
        """The result of playing for the least distance; `rules` of the threat may be told otherwise."""
        threat = {"norm": norm, "epsilon": "inf", "budget": budget, "feedback": "label"}
        return arena.play(
            attacker,
            defender,
            classifier=self,
            images=self.images,
            labels=torch.zeros(len(self.images), dtype=torch.int64),
            threat=threat | {"objective": "minimum"} | more.pop("rules", {}),
            **more,
        )

    def ratios(
        self, attacker: Any, norm: str = "l2", budget: int = 1000, at: Sequence[int] = (), **more: Any
    ) -> tuple[list[float], Any]:
        """Median distance over the least possible at each of `at` and at `budget`, and the result."""
        result = self.play(attacker, norm=norm, budget=budget, at=at, **more)
        least = self.least[norm].numpy()
        return [float(np.median(getattr(result.marks[q], norm) / least)) for q in (*at, budget)], result


class Procedure:
    """Plays `steps(games)`, a generator function, and keeps what it returns as `result`."""

    def __init__(self, steps: Callable[[Any], Any]) -> None:
        self.steps = steps

    def play(self, games: Any) -> Any:
        self.result = yield from self.steps(games)


@pytest.fixture
def flat_boundary() -> type[FlatBoundary]:
    return FlatBoundary


@pytest.fixture
def procedure() -> type[Procedure]:
    return Procedure


SHAPE = (1, 4, 4)


@dataclass(frozen=True)
class Asks(Attacker):
    """Asks for images of grey 1/2 by a plan (games and purpose of each volley) and keeps what it hears."""

    plan: tuple[tuple[tuple[int, ...], str], ...] = (((0,), "probe"),)
    heard: list[Any] = field(default_factory=list)
    feedback: str = "label"

    @property
    def needs(self) -> Needs:
        return Needs(feedback=self.feedback)  # type: ignore[arg-type]

    def play(self, games: Games) -> Play:
        self.heard.append(games)
        for volley, purpose in self.plan:
            i = torch.tensor(volley)
            x = torch.full((len(i), *games.x0.shape[1:]), 0.5)
            self.heard.append((yield from games.ask(x, i, purpose)))


@pytest.fixture
def asks() -> type[Asks]:
    return Asks


@pytest.fixture
def says(referee: Any, images: Any) -> Callable[..., Any]:
    """says(labels, ...): a referee of games on class 0 of `classes` that answers labels[turn - 1] each."""

    def make(
        labels: Sequence[int], *, games: int = 1, classes: int = 4, budget: int = 100, **more: Any
    ) -> Any:
        script = torch.tensor([*labels, *[0] * 1000])
        target = more.pop("target", None)
        rules = {"goal": "targeted"} if target is not None else {}
        rules["objective"] = more.pop("objective", "submit")
        rules["feedback"] = more.pop("feedback", "label")

        def model(x: Tensor, game: Tensor, turn: Tensor) -> Tensor:
            return torch.nn.functional.one_hot(script[turn - 1], classes).float()

        threat = Threat(epsilon=1.0, budget=budget, **rules)
        y = torch.zeros(games, dtype=torch.int64)
        goal = None if target is None else torch.full((games,), target)
        return referee(model, images(games, SHAPE), y, threat, target=goal, **more)

    return make


@dataclass(frozen=True)
class Near(Defender):
    """Refuses an image within `radius` (l2) of `neighbours` earlier ones of the same account.

    Attributes:
        ban: the account is closed as well.
    """

    radius: float = 0.4
    neighbours: int = 1
    ban: bool = False

    memory: ClassVar[Memory] = "account"

    def start(self, shape: tuple[int, int, int, int], accounts: int, device: torch.device) -> Any:
        seen = torch.full((shape[0], accounts, 1024, shape[1] * shape[2] * shape[3]), torch.inf)
        return {"seen": seen, "count": torch.zeros(shape[0], accounts, dtype=torch.int64)}

    def watch(self, x: Tensor, rows: Rows, response: Response) -> Response:
        who, top = (rows.game, rows.account), max(1, int(rows.memory["count"].max()))
        far = (rows.memory["seen"][who][:, :top] - x.flatten(1).unsqueeze(1)).square().sum(dim=2)
        near = (far <= self.radius**2).sum(dim=1) >= self.neighbours
        banned = response.banned | (near & self.ban)
        return replace(
            response, refused=response.refused | near, flagged=response.flagged | near, banned=banned
        )

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        who = rows.game, rows.account
        rows.memory["seen"][(*who, rows.memory["count"][who])] = x.flatten(1)
        rows.memory["count"][who] += 1


@pytest.fixture(scope="session")
def near() -> type[Near]:
    return Near


@dataclass(frozen=True)
class Queries:
    """All charged queries of a result, row by row."""

    game: Any
    turn: Any
    account: Any
    refused: Any
    hit: Any
    purpose: Any

    @classmethod
    def of(cls, result: Any) -> Queries:
        def column(name: str) -> Any:
            return np.concatenate([getattr(rows, name) for rows in result.rows])

        purpose = [np.full(len(rows.game), rows.purpose, dtype=object) for rows in result.rows]
        names = ("game", "turn", "account", "refused", "hit")
        return cls(*map(column, names), np.concatenate(purpose))

    def share_refused(self, *purposes: str) -> float:
        """Of the queries of these purposes."""
        return float(self.refused[np.isin(self.purpose, purposes)].mean())


@pytest.fixture(scope="session")
def queries() -> Callable[[Any], Queries]:
    return Queries.of
