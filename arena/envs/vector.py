"""The attacker's side of many games at once as a Gymnasium vector environment."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from arena.envs.actions import Action
from arena.envs.blackbox import BlackBoxEnv, StepResult
from arena.envs.interface import Arrays, Interface
from arena.envs.rolling_games import RollingGames, StepOutcome, ending
from arena.envs.setup import EnvOptions
from arena.envs.spaces import ActionKind, Reward
from arena.records.reports import Listener
from arena.rules.outcome import Ints


class BlackBoxVectorEnv(VectorEnv[dict[str, Any], Any, Any]):
    """`arena/BlackBox-v0` as a vector environment: all that send are answered in one forward pass.

    An action is that of `BlackBoxEnv`, [N,...] each part. `step(actions, send=mask)` lets only those
    environments act where the mask [N] is True: what the others would do is not looked at, they are not
    charged, and they observe their last answers again, with reward 0.

    Observations, rewards and `info` are those of `BlackBoxEnv`, [N,...] each, `info` with a mask `_key` for
    each key. The environments take their games from one order, the lower first. With `arrays="torch"`
    rewards and ends, too, are tensors on the device.

    Autoreset, as Gymnasium defines its modes (`metadata["autoreset_mode"]`):

    - NEXT_STEP: the step after an end deals the next game; its action is not looked at, nothing is charged.
    - SAME_STEP: the next game is dealt at once; the last observation of the old is in `info["final_obs"]`,
      how it ended in `info["final_info"]`.
    - DISABLED: an ended game stays `terminated`, and must not send, until `reset(options={"reset_mask": m})`.

    Args:
        num_envs: N, the number of games side by side.
        autoreset_mode: an AutoresetMode or its value.
        render_mode: None or `rgb_array`: `render()` gives N pictures.
        action, reward, seed, arrays, votes, listener, options: as in `BlackBoxEnv`; one seed serves all
            environments.

    Raises:
        ValueError: if the options do not fit together.
    """

    def __init__(
        self,
        *,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        action: ActionKind = "perturbation",
        reward: Reward = "objective",
        render_mode: str | None = None,
        seed: int | None = None,
        arrays: Arrays = "numpy",
        votes: int = 25,
        listener: Listener | None = None,
        **options: Unpack[EnvOptions],
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1; found {num_envs}")
        self.metadata = {**BlackBoxEnv.metadata, "render_modes": ["rgb_array"]}
        self._interface = Interface(
            num_envs,
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
        self.device, self.num_envs = self.setup.device, num_envs
        self.arrays, self.render_mode = arrays, render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata["autoreset_mode"] = self.autoreset_mode
        self.single_observation_space = self._interface.observation_space
        self.single_action_space = self._interface.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._seed = seed
        self._rolling: RollingGames | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Deal the next games to all environments, or to those in `options["reset_mask"]` ([N] bool).

        With a seed, all get the first games of its order.

        Raises:
            ValueError: if the mask is not [N] bool, or comes with a seed or before the first reset.
        """
        mask = (options or {}).get("reset_mask")
        if mask is not None and (seed is not None or self._rolling is None):
            raise ValueError("reset_mask needs games dealt by an earlier reset, and no seed")
        if seed is not None or self._rolling is None:
            self.close_extras()
            start = self._seed if seed is None else seed
            self._np_random, self._np_random_seed = seeding.np_random(start)
            self._rolling = self._interface.begin(self._np_random_seed)
        else:
            self._rolling.deal(self._masked(mask))
        return self._observe(self._rolling), self._info(self._rolling)

    def step(self, actions: Any, *, send: Any = None) -> StepResult:
        """Let the environments that send ask, or hand in; all do where `send` [N], 0 or 1 each, is None.

        Raises:
            VolleyError: if the action is malformed; nothing is charged and no game dealt then.
            ResetNeeded: before the first reset, or if a game that is over sends though autoreset is disabled.
        """
        return self.play(self._interface.actions.several(actions, self._dealt().board.x0, send))

    def play(self, action: Action) -> StepResult:
        """A step of images that were made elsewhere, whatever actions are here; errors as in `step`."""
        rolling = self._dealt()
        over = np.flatnonzero(~rolling.open)
        if self.autoreset_mode is AutoresetMode.DISABLED:
            self._refuse(action, over)
        outcome = rolling.play(action)
        ended = outcome.ended
        if self.autoreset_mode is AutoresetMode.DISABLED:
            ended = ~rolling.open
        elif self.autoreset_mode is AutoresetMode.NEXT_STEP and len(over):
            rolling.deal(over)
        elif self.autoreset_mode is AutoresetMode.SAME_STEP and outcome.summary is not None:
            return self._deal_at_once(rolling, outcome)
        info = self._info(rolling)
        self._add_endings(info, outcome)
        return self._observe(rolling), *self._signals(outcome.reward, ended), info

    def render(self) -> tuple[Any, ...] | None:
        """A picture [h,w,3] uint8 of each environment; None without a render mode.

        Raises:
            ResetNeeded: if no games were dealt yet.
        """
        return None if self.render_mode is None else self._interface.frames(self._dealt())

    def close_extras(self, **kwargs: Any) -> None:
        """Leave the games that still go on."""
        if self._rolling is not None:
            self._rolling.leave(np.arange(self.num_envs))

    def _deal_at_once(self, rolling: RollingGames, outcome: StepOutcome) -> StepResult:
        """The end of a step whose ended games make room for the next ones."""
        assert outcome.summary is not None
        last, ended = self._observe(rolling), outcome.summary.game
        final: dict[str, Any] = self._info(rolling)
        self._add_endings(final, outcome)
        rolling.deal(ended)
        info = self._info(rolling)
        info["final_obs"], info["_final_obs"] = np.full(self.num_envs, None), outcome.ended.copy()
        info["final_info"], info["_final_info"] = final, outcome.ended.copy()
        for i in ended.tolist():
            info["final_obs"][i] = {name: part[i] for name, part in last.items()}
        return self._observe(rolling), *self._signals(outcome.reward, outcome.ended), info

    def _refuse(self, action: Action, over: Ints) -> None:
        if len(late := over[action.send[over]]):
            raise ResetNeeded(
                f"the games of environments {late.tolist()} are over; reset them with options "
                '{"reset_mask": mask}, or leave them out of send'
            )

    def _dealt(self) -> RollingGames:
        if self._rolling is None:
            raise ResetNeeded("no games were dealt; call reset() first")
        return self._rolling

    def _masked(self, mask: Any) -> Ints:
        if mask is None:
            return np.arange(self.num_envs)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (self.num_envs,):
            raise ValueError(f"reset_mask must be a numpy array of bool [{self.num_envs}]; found {mask!r}")
        return np.flatnonzero(mask)

    def _observe(self, rolling: RollingGames) -> dict[str, Any]:
        return self._interface.observe(rolling)

    def _signals(self, reward: NDArray[Any], ended: NDArray[Any]) -> tuple[Any, Any, Any]:
        """Rewards, terminations and truncations."""
        signals = reward, ended.copy(), np.zeros(self.num_envs, dtype=bool)
        if self.arrays == "numpy":
            return signals
        packed = torch.from_numpy(np.stack(signals)).to(self.device, torch.float32)
        return packed[0], packed[1] > 0, packed[2] > 0

    def _info(self, rolling: RollingGames) -> dict[str, Any]:
        everyone = np.ones(self.num_envs, dtype=bool)
        key, turn = rolling.key.copy(), rolling.turn.copy()
        return {"key": key, "_key": everyone, "turn": turn, "_turn": everyone.copy()}

    def _add_endings(self, info: dict[str, Any], outcome: StepOutcome) -> None:
        if outcome.summary is not None:
            for i, end in zip(outcome.summary.game.tolist(), ending(outcome.summary), strict=True):
                self._add_info(info, end, i)
