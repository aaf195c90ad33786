"""What the single and the vector environment have in common: spaces, and games seen through them."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch

from arena.envs.actions import Actions
from arena.envs.frames import frame
from arena.envs.rolling_games import RollingGames, observation_types, to_numpy
from arena.envs.setup import EnvOptions, build_setup
from arena.envs.spaces import ActionKind, Reward, action_space, observation_space
from arena.records.reports import Listener

Arrays = Literal["numpy", "torch"]


class Interface:
    """`games` games side by side as an environment shows them.

    Attributes:
        observation_space, action_space: of one game.
        actions: reads actions.

    Args:
        render_mode: one of `render_modes`, or None: no pictures.

    Raises:
        ValueError: if the options do not fit together, or a word is none of those allowed.
    """

    def __init__(
        self,
        games: int,
        *,
        action: ActionKind,
        reward: Reward,
        arrays: Arrays,
        votes: int,
        listener: Listener | None,
        render_mode: str | None,
        render_modes: list[str],
        options: EnvOptions,
    ) -> None:
        _word("action", action, get_args(ActionKind))
        _word("reward", reward, get_args(Reward))
        _word("arrays", arrays, get_args(Arrays))
        if render_mode is not None:
            _word("render_mode", render_mode, render_modes)
        self.setup = build_setup(**options)
        self.threat = self.setup.threat
        if reward == "margin" and self.threat.feedback == "label":
            raise ValueError('reward "margin" needs scores; feedback "label" shows none')
        self.games, self.reward, self.arrays = games, reward, arrays
        self._votes, self._listener, self._draws = votes, listener, render_mode is not None
        shape = self.setup.shape
        self.observation_space = observation_space(self.threat, shape, self.setup.classes, reward)
        self._types = observation_types(self.observation_space)
        self.action_space = action_space(self.threat, shape, action)
        self.actions = Actions(self.threat, games, shape, self.setup.device, action)

    def begin(self, seed: int) -> RollingGames:
        """The first games of the order that `seed` decides."""
        return RollingGames(
            self.setup,
            self.games,
            seed,
            listener=self._listener,
            votes=self._votes,
            reward=self.reward,
            keeps_sent=self._draws,
        )

    def observe(self, rolling: RollingGames) -> dict[str, Any]:
        """The observations of all games, [N,...] each, as arrays or tensors."""
        observation = rolling.observe()
        return dict(to_numpy(observation, self._types)) if self.arrays == "numpy" else dict(observation)

    def frames(self, rolling: RollingGames) -> tuple[Any, ...]:
        """A picture [h,w,3] uint8 of each game (`arena.envs.frames.frame`)."""
        seen, sent = to_numpy(rolling.observe(), self._types), rolling.sent().cpu().numpy()
        reasons = rolling.board.ledger.reason
        return tuple(
            frame({name: part[i] for name, part in seen.items()}, sent[i], self.threat, reasons[i])
            for i in range(self.games)
        )

    @property
    def device(self) -> torch.device:
        return self.setup.device


def _word(name: str, found: object, allowed: tuple[str, ...] | list[str]) -> None:
    if found not in allowed:
        words = " or ".join(f'"{word}"' for word in allowed)
        raise ValueError(f"{name} must be {words}; found {found!r}")
