"""Train a policy with PPO to attack the digits, and compare it with random ones on images it has not seen.

    python examples/ppo.py [--steps 60000] [--seed 0]

Needs stable-baselines3: `pip install "blackbox-arena[learning]"`. PPO (Schulman et al. 2017) looks at the
clean image and its label and chooses a perturbation of 4 x 4 superpixels. It learns in games of one query on
the images of the data set's other splits, paid by the fall of the margin that the answer shows. Then it and
two random policies play the same games of ten queries, one on each image of the split `games` that the
classifier gets right.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from arena.datasets import load_dataset
from arena.envs import VectorLowFrequency
from arena.statistics import wilson

THREAT = {"norm": "linf", "epsilon": 0.125, "budget": 10, "feedback": "logits", "objective": "first"}
SIZE = 4
"""Superpixels on a side."""
SEEN = ("image", "label")
"""The parts of an observation that the policy looks at."""

Observation = Mapping[str, NDArray[Any]]
Policy = Callable[[Observation], NDArray[np.float32]]


def make(num_envs: int, **options: Any) -> VectorLowFrequency:
    """`num_envs` games side by side on the digits; their actions are [N,1,4,4] from -1 to 1."""
    rules = {"threat": THREAT, "dataset": "digits", "device": "cpu"}
    envs = gymnasium.make_vec("arena:arena/BlackBox-v0", num_envs=num_envs, **rules | options)
    return VectorLowFrequency(envs, size=SIZE)


def lessons(num_envs: int, seed: int) -> VectorLowFrequency:
    """Games to learn by: of one query, on images that are in no test game, paid by the margin."""
    data = load_dataset("digits")
    splits = (data.train, data.calibration, data.resources)
    return make(
        num_envs,
        images=torch.cat([split.images for split in splits]),
        labels=torch.cat([split.labels for split in splits]),
        threat=THREAT | {"budget": 1},
        reward="margin",
        autoreset_mode="SameStep",
        seed=seed,
    )


class Lessons(VecEnv):
    """A vector environment with autoreset in the same step, in the form that stable-baselines3 asks for."""

    def __init__(self, envs: VectorLowFrequency) -> None:
        self.envs = envs
        seen = spaces.Dict({name: envs.single_observation_space[name] for name in SEEN})
        super().__init__(envs.num_envs, seen, envs.single_action_space)

    def reset(self) -> Observation:
        return looked_at(self.envs.reset()[0])

    def step_async(self, actions: NDArray[np.float32]) -> None:
        self.chosen = actions

    def step_wait(self) -> tuple[Observation, NDArray[Any], NDArray[Any], list[dict[str, Any]]]:
        observation, reward, ended, _, info = self.envs.step(self.chosen)
        infos: list[dict[str, Any]] = [{} for _ in ended]
        for i in np.flatnonzero(ended):
            infos[i]["terminal_observation"] = looked_at(info["final_obs"][i])
        return looked_at(observation), reward.astype(np.float32), ended, infos

    def close(self) -> None:
        self.envs.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.envs, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("the games are those of one environment")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **options: Any) -> list[Any]:
        raise NotImplementedError("the games are those of one environment")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


def looked_at(observation: Observation) -> dict[str, NDArray[Any]]:
    """What the policy sees of an observation."""
    return {name: observation[name] for name in SEEN}


def learn(steps: int, seed: int) -> PPO:
    """A policy trained for `steps` queries. Without a next step in a game there is nothing to discount."""
    envs = Lessons(lessons(64, seed))
    model = PPO(
        "MultiInputPolicy",
        envs,
        n_steps=8,
        batch_size=512,
        learning_rate=1e-3,
        gamma=0.0,
        gae_lambda=0.0,
        policy_kwargs={"net_arch": [256, 256], "log_std_init": -0.5},
        seed=seed,
        device="cpu",
    )
    return model.learn(steps)


def won(policy: Policy, seed: int = 0, games: int | None = None) -> NDArray[np.bool_]:
    """Whether a policy wins each of `games` games; None: one on each image that the classifier gets right."""
    if games is None:
        setup = make(1).unwrapped.setup
        games = int(setup.are_right(torch.arange(len(setup.split))).sum())
    envs = make(games, autoreset_mode="Disabled", seed=seed)
    observation, _ = envs.reset()
    wins, playing = np.zeros(games, dtype=bool), np.ones(games, dtype=bool)
    while playing.any():
        observation, reward, ended, _, _ = envs.step(policy(observation), send=playing)
        wins, playing = wins | (reward > 0), ~ended
    return wins


def policies(model: PPO, seed: int) -> dict[str, Policy]:
    """The policies to compare, by name."""
    rng = np.random.default_rng(seed)
    corners = np.array([-1, 1], dtype=np.float32)

    def uniform(observation: Observation) -> NDArray[np.float32]:
        return rng.uniform(-1, 1, (len(observation["image"]), 1, SIZE, SIZE)).astype(np.float32)

    def corner(observation: Observation) -> NDArray[np.float32]:
        return rng.choice(corners, (len(observation["image"]), 1, SIZE, SIZE))

    def learned(observation: Observation) -> NDArray[np.float32]:
        return model.predict(looked_at(observation))[0]

    return {"random, uniform": uniform, "random, -1 or 1": corner, "PPO": learned}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=60_000, help="queries to learn by")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    began, computed = time.perf_counter(), time.process_time()
    model = learn(given.steps, given.seed)
    print(
        f"learned from {given.steps} queries in {time.perf_counter() - began:.0f} s "
        f"({time.process_time() - computed:.0f} s of processor time)"
    )
    for name, policy in policies(model, given.seed).items():
        wins = won(policy)
        low, high = wilson(int(wins.sum()), len(wins))
        print(
            f"{name:16} wins {wins.mean():6.1%} of {len(wins)} games (95 %: {low:.1%} to {high:.1%})",
            flush=True,
        )


if __name__ == "__main__":
    main()
