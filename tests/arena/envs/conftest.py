from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor, nn

from arena.envs import BlackBoxVectorEnv
from arena.players import Defender, Response, Rows
from arena.records.reports import GameRows, MarkRows, QueryRows, SilentListener

SHAPE = (1, 8, 8)
CLASSES = 10


class Linear(nn.Module):
    """Logits [n,10] of images [n,1,8,8]; counts its forward passes."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(CLASSES, 64, generator=torch.Generator().manual_seed(3))
        self.register_buffer("weight", weight)
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return x.flatten(1) @ self.weight.T


@dataclass(frozen=True)
class Noise(Defender):
    """Adds noise to the logits."""

    sigma: float = 1.0
    random = True

    def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
        return scores + self.sigma * rows.normal(scores.shape[1:])


@dataclass(frozen=True)
class Patience(Defender):
    """Refuses every query of a game (`ban`: and closes the account) after `queries` of them."""

    queries: int = 3
    ban: bool = False
    memory = "game"

    def start(self, shape: tuple[int, int, int, int], accounts: int, device: torch.device) -> Tensor:
        return torch.zeros(shape[0], dtype=torch.int64, device=device)

    def watch(self, x: Tensor, rows: Rows, response: Response) -> Response:
        over = rows.memory[rows.game] >= self.queries
        return Response(response.scores, refused=over, banned=over if self.ban else None)

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        rows.memory[rows.game] += 1

    def forget(self, memory: Tensor, games: Tensor) -> None:
        memory[games] = 0


@dataclass(frozen=True)
class Stubborn(Patience):
    """A Patience that does not say how to forget."""

    forget = Defender.forget


class Tape(SilentListener):
    """Keeps what was heard by the number of the game; what is open is kept by its place.

    `clean` tells of every game that began whether the classifier was right.
    """

    def __init__(self, keys: list[int] | None = None) -> None:
        self.games_by_key: dict[int, list[tuple[Any, ...]]] = {}
        self.endings: list[GameRows] = []
        self.clean: list[bool] = []
        self._open: dict[int, list[tuple[Any, ...]]] = defaultdict(list)

    def queries(self, rows: QueryRows) -> None:
        # Not rows.better: of the rows that a volley holds for one game, one at most becomes the best.
        columns = (rows.turn, rows.account, rows.label, rows.refused, rows.l2, rows.linf, rows.hit)
        for place, margin, *rest in zip(rows.game, rows.margin, *columns, strict=True):
            self._open[int(place)].append((*(v.item() for v in rest), float(margin)))

    def marks(self, rows: MarkRows) -> None:
        assert rows.at == 0
        self.clean += (~rows.base).tolist()

    def games(self, rows: GameRows) -> None:
        self.endings.append(rows)
        for place, key in zip(rows.game.tolist(), rows.key.tolist(), strict=True):
            assert key not in self.games_by_key
            self.games_by_key[key] = self._open.pop(place, [])


@dataclass
class Ground:
    """40 images of which a linear classifier gets 30 right."""

    model: Linear = field(default_factory=Linear)

    def __post_init__(self) -> None:
        self.images = torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(1))
        self.labels = self.model(self.images).argmax(1)
        self.labels[::4] = (self.labels[::4] + 1) % CLASSES
        self.right = [i for i in range(40) if i % 4]

    def options(self, **threat: Any) -> dict[str, Any]:
        rules = {"epsilon": 0.02, "budget": 6} | threat
        return {
            "action": "image",
            "classifier": self.model,
            "images": self.images,
            "labels": self.labels,
            "threat": rules,
            "device": "cpu",
            "seed": 5,
        }

    def vector(
        self, n: int = 4, mode: str | AutoresetMode = "NextStep", *, defender: Any = (), **others: Any
    ) -> BlackBoxVectorEnv:
        """n environments; what is not theirs by name belongs to the threat."""
        names = ("listener", "arrays", "action", "reward", "render_mode")
        own = {name: others.pop(name) for name in names if name in others}
        options = {**self.options(**others), **own}
        return BlackBoxVectorEnv(num_envs=n, autoreset_mode=mode, defender=defender, **options)

    def lost(self, obs: dict[str, Any], epsilon: float = 0.5) -> Any:
        """Images that win all games of a batch of observations."""
        image, label = torch.as_tensor(obs["image"]), torch.as_tensor(obs["label"])
        return self.winning(image, label, epsilon).numpy()

    def winning(self, image: Tensor, label: Tensor, epsilon: float) -> Tensor:
        """The best linf attack [n,1,8,8] on the weakest margin of images [n,1,8,8] by a step of epsilon."""
        w = self.model.weight
        other = self.model(image).scatter(1, label.unsqueeze(1), -torch.inf).argmax(1)
        step = (w[other] - w[label]).sign().view_as(image)
        return (image + epsilon * step).clamp(0, 1)


@pytest.fixture
def ground() -> Ground:
    return Ground()


@pytest.fixture
def tape() -> Tape:
    return Tape()


@pytest.fixture
def defenders() -> dict[str, type[Defender]]:
    return {"noise": Noise, "patience": Patience, "stubborn": Stubborn}


@pytest.fixture
def new_tape() -> type[Tape]:
    return Tape
