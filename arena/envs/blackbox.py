"""The attacker's side of a game as a Gymnasium environment."""

from __future__ import annotations

from typing import Any, Unpack

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded

from arena.envs.interface import Arrays, Interface
from arena.envs.rolling_games import RollingGames, ending
from arena.envs.setup import EnvOptions
from arena.envs.spaces import ActionKind, Reward
from arena.envs.window import Window
from arena.records.reports import Listener

StepResult = tuple[dict[str, Any], Any, Any, Any, dict[str, Any]]


class BlackBoxEnv(gymnasium.Env[dict[str, Any], Any]):
    """`arena/BlackBox-v0`: one game against a defended classifier after another.

    An action is a perturbation [C,H,W] of the clean image, or the image to ask itself; where the threat's
    objective is `submit` or it grants several accounts, a table of it and `arena.envs.spaces.action_parts`.
    Observations are `arena.envs.spaces.observation_space`, rewards those of
    `arena.envs.rolling_games.RollingGames`. Every end, the budget's too, is `terminated`, since the queries
    left are observed; nothing is truncated.

    Games are the images that the classifier gets right, in the order of
    `arena.envs.endless_games.EndlessGames`.
    `info` holds the game's number (`key`) and its `turn`; at the end also `reason`, `queries`, `refused`,
    `hit_at` (0: no hit), the verdicts `answered`, `vote` and `base`, and after a hit the distances `l2` and
    `linf`. Verdicts cost a few uncharged forward passes a game (`votes` for a random defender).

    Args:
        action: `perturbation`: from -1 to 1, laid over the ball (`arena.envs.perturbations.perturbed`);
            `image`: the image to ask, which may lie anywhere.
        reward: `objective`: what the objective pays; `margin`: besides, the fall of the lowest margin shown.
        render_mode: `rgb_array`: `render()` gives a picture of the game (`arena.envs.frames.frame`);
            `human`: a window shows it.
        seed: of the games' order, targets and the defender's draws, until `reset(seed=...)` gives another;
            None: a fresh one. `reset()` goes on in the order, with what the defended service remembers.
        arrays: what observations are made of: numpy arrays, or tensors on the device (Gymnasium's own checker
            warns of these: `gymnasium.make(..., disable_env_checker=True)`). Actions may be either.
        votes: fresh answers per vote of a random defender.
        listener: hears every query and how games ended. What was not played to its end is `resigned`.
        options: what to play on.

    Raises:
        ValueError: if the options do not fit together.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "human"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        *,
        action: ActionKind = "perturbation",
        reward: Reward = "objective",
        render_mode: str | None = None,
        seed: int | None = None,
        arrays: Arrays = "numpy",
        votes: int = 25,
        listener: Listener | None = None,
        **options: Unpack[EnvOptions],
    ) -> None:
        self._interface = Interface(
            1,
            action=action,
            reward=reward,
            arrays=arrays,
            votes=votes,
            listener=listener,
            render_mode=render_mode,
            render_modes=self.metadata["render_modes"],
            options=options,
        )
        self.setup, self.threat = self._interface.setup, self._interface.threat
        self.device, self.arrays, self.render_mode = self.setup.device, arrays, render_mode
        self.observation_space = self._interface.observation_space
        self.action_space = self._interface.action_space
        self._seed = seed
        self._rolling: RollingGames | None = None
        self._window = Window(self.metadata["render_fps"]) if render_mode == "human" else None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Deal the next game; with a seed, the first game of its order. `options` are not used."""
        first = self._rolling is None
        super().reset(seed=self._seed if seed is None and first else seed)
        if seed is not None or self._rolling is None:
            self._leave()
            self._rolling = self._interface.begin(self.np_random_seed)
        else:
            self._rolling.deal(np.arange(1))
        self._show()
        return self._observe(self._rolling), self._info(self._rolling)

    def step(self, action: Any) -> StepResult:
        """Ask, or hand in.

        Raises:
            VolleyError: if the action is malformed; nothing is charged then.
            ResetNeeded: if the game is over, or none was dealt yet.
        """
        rolling = self._rolling
        if rolling is None or not rolling.open[0]:
            raise ResetNeeded("there is no game to play (none was dealt, or it is over); call reset() first")
        outcome = rolling.play(self._interface.actions.single(action, rolling.board.x0))
        self._show()
        info = self._info(rolling)
        if outcome.summary is not None:
            info |= ending(outcome.summary)[0]
        return self._observe(rolling), float(outcome.reward[0]), bool(outcome.ended[0]), False, info

    def render(self) -> Any:
        """The game as a picture [h,w,3] uint8 (`rgb_array`); None where a window shows it, or nothing does.

        Raises:
            ResetNeeded: if no game was dealt yet.
        """
        if self.render_mode is None:
            return super().render()
        if self._rolling is None:
            raise ResetNeeded("there is no game to show; call reset() first")
        if self._window is not None:
            return self._show()
        return self._interface.frames(self._rolling)[0]

    def close(self) -> None:
        """Leave the game, if one goes on, and close the window, if there is one."""
        self._leave()
        if self._window is not None:
            self._window.close()

    def _leave(self) -> None:
        if self._rolling is not None:
            self._rolling.leave(np.arange(1))

    def _show(self) -> None:
        if self._window is not None and self._rolling is not None:
            self._window.show(self._interface.frames(self._rolling)[0])

    def _observe(self, rolling: RollingGames) -> dict[str, Any]:
        return {name: part[0] for name, part in self._interface.observe(rolling).items()}

    def _info(self, rolling: RollingGames) -> dict[str, Any]:
        return {"key": int(rolling.key[0]), "turn": int(rolling.turn[0])}
