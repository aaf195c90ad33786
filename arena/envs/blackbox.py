"""The attacker's side of a game as Gymnasium environments, one game or many at once."""

from __future__ import annotations

from typing import Any, Literal, Unpack, cast

import gymnasium
import numpy as np
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from arena.envs.actions import Action, Actions
from arena.envs.rolling_games import (
    Observation,
    RollingGames,
    StepOutcome,
    ending,
    observation_types,
    to_numpy,
)
from arena.envs.setup import EnvOptions, EnvSetup, build_setup
from arena.envs.spaces import action_space, observation_space, vector_action_space
from arena.records.reports import Listener
from arena.rules.outcome import Ints

Arrays = Literal["numpy", "torch"]
StepResult = tuple[dict[str, Any], Any, Any, Any, dict[str, Any]]


class BlackBoxEnv(gymnasium.Env[dict[str, Any], Any]):
    """`arena/BlackBox-v0`: one game against a defended classifier after another.

    An action is an image [C,H,W] to ask, or, where the threat's objective is `submit` or it grants several
    accounts, a table of the image and `arena.envs.spaces.action_parts`. Observations are
    `arena.envs.spaces.observation_space`, rewards those of
    `arena.envs.rolling_games.RollingGames`. Every end, the budget's too, is `terminated`, since the queries
    left are observed; nothing is truncated.

    Games are the images that the classifier gets right, in the order of
    `arena.envs.endless_games.EndlessGames`.
    `info` holds the game's number (`key`) and its `turn`; at the end also `reason`, `queries`, `refused`,
    `hit_at` (0: no hit), the verdicts `answered`, `vote` and `base`, and after a hit the distances `l2` and
    `linf`. Verdicts cost a few uncharged forward passes a game (`votes` for a random defender).

    Args:
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

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        *,
        seed: int | None = None,
        arrays: Arrays = "numpy",
        votes: int = 25,
        listener: Listener | None = None,
        **options: Unpack[EnvOptions],
    ) -> None:
        self.setup = build_setup(**options)
        self.threat, self.device = self.setup.threat, self.setup.device
        self.arrays = _checked(arrays)
        self.observation_space = observation_space(self.threat, self.setup.shape, self.setup.classes)
        self._types = observation_types(self.observation_space)
        self.action_space = action_space(self.threat, self.setup.shape)
        self._seed, self._votes, self._listener = seed, votes, listener
        self._actions = Actions(self.threat, 1, self.setup.shape, self.device)
        self._rolling: RollingGames | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Deal the next game; with a seed, the first game of its order. `options` are not used."""
        first = self._rolling is None
        super().reset(seed=self._seed if seed is None and first else seed)
        if seed is not None or self._rolling is None:
            self.close()
            self._rolling = _rolling(self.setup, 1, self.np_random_seed, self._listener, self._votes)
        else:
            self._rolling.deal(np.arange(1))
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
        outcome = rolling.play(self._actions.single(action))
        info = self._info(rolling)
        if outcome.summary is not None:
            info |= ending(outcome.summary)[0]
        return self._observe(rolling), float(outcome.reward[0]), bool(outcome.ended[0]), False, info

    def close(self) -> None:
        """Leave the game, if one goes on."""
        if self._rolling is not None:
            self._rolling.leave(np.arange(1))

    def _observe(self, rolling: RollingGames) -> dict[str, Any]:
        observation = rolling.observe()
        parts = to_numpy(observation, self._types) if self.arrays == "numpy" else observation
        return {name: part[0] for name, part in parts.items()}

    def _info(self, rolling: RollingGames) -> dict[str, Any]:
        return {"key": int(rolling.key[0]), "turn": int(rolling.turn[0])}


class BlackBoxVectorEnv(VectorEnv[dict[str, Any], Any, Any]):
    """`arena/BlackBox-v0` as a vector environment: all that send are answered in one forward pass.

    An action is a table: `image` [N,C,H,W], `send` [N] (whether an environment acts at all; left out: all
    do), and `arena.envs.spaces.action_parts`, [N] each. A bare batch of images is an action in which all
    send. Images of environments that do not send are not looked at. An environment that does not send is not
    charged; it observes its last answer again, with reward 0.

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
        seed, arrays, votes, listener, options: as in `BlackBoxEnv`; one seed serves all environments.

    Raises:
        ValueError: if the options do not fit together.
    """

    def __init__(
        self,
        *,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        seed: int | None = None,
        arrays: Arrays = "numpy",
        votes: int = 25,
        listener: Listener | None = None,
        **options: Unpack[EnvOptions],
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1; found {num_envs}")
        self.setup = build_setup(**options)
        self.threat, self.device, self.num_envs = self.setup.threat, self.setup.device, num_envs
        self.arrays = _checked(arrays)
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**BlackBoxEnv.metadata, "autoreset_mode": self.autoreset_mode}
        shape, classes = self.setup.shape, self.setup.classes
        self.single_observation_space = observation_space(self.threat, shape, classes)
        self._types = observation_types(self.single_observation_space)
        self.single_action_space = vector_action_space(self.threat, shape)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._seed, self._votes, self._listener = seed, votes, listener
        self._actions = Actions(self.threat, num_envs, shape, self.device)
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
            self._rolling = _rolling(
                self.setup, self.num_envs, self._np_random_seed, self._listener, self._votes
            )
        else:
            self._rolling.deal(self._masked(mask))
        return self._observe(self._rolling), self._info(self._rolling)

    def step(self, actions: Any) -> StepResult:
        """Let the environments that send ask, or hand in.

        Raises:
            VolleyError: if the action is malformed; nothing is charged and no game dealt then.
            ResetNeeded: before the first reset, or if a game that is over sends though autoreset is disabled.
        """
        rolling = self._rolling
        if rolling is None:
            raise ResetNeeded("no games were dealt; call reset() first")
        action = self._actions.several(actions)
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

    def _masked(self, mask: Any) -> Ints:
        if mask is None:
            return np.arange(self.num_envs)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (self.num_envs,):
            raise ValueError(f"reset_mask must be a numpy array of bool [{self.num_envs}]; found {mask!r}")
        return np.flatnonzero(mask)

    def _observe(self, rolling: RollingGames) -> dict[str, Any]:
        observation: Observation = rolling.observe()
        return dict(to_numpy(observation, self._types)) if self.arrays == "numpy" else dict(observation)

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


def _rolling(setup: EnvSetup, games: int, seed: Any, listener: Listener | None, votes: int) -> RollingGames:
    return RollingGames(setup, games, cast(int, seed), listener=listener, votes=votes)


def _checked(arrays: str) -> str:
    if arrays not in ("numpy", "torch"):
        raise ValueError(f'arrays must be "numpy" or "torch"; found {arrays!r}')
    return arrays
