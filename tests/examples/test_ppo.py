"""The example that trains PPO; what it wins when it has learned is in docs/results.md."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from arena.envs import LowFrequency

pytest.importorskip("stable_baselines3", reason='needs pip install "blackbox-arena[learning]"')

FILE = Path(__file__).parents[2] / "examples" / "ppo.py"


@pytest.fixture(scope="module")
def ppo():
    spec = importlib.util.spec_from_file_location("ppo_example", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_lessons_are_games_of_one_query_in_the_form_that_the_learner_wants(ppo):
    envs = ppo.Lessons(ppo.lessons(4, seed=0))
    assert envs.action_space.shape == (1, 4, 4) and {*envs.observation_space} == {"image", "label"}
    first = envs.reset()
    action = np.random.default_rng(0).choice(np.float32([-1, 1]), (4, 1, 4, 4))
    seen, reward, ended, infos = envs.step(action)
    assert ended.all() and reward.dtype == np.float32 and ((reward > 0) & (reward <= 3)).all()
    for i in range(4):
        assert (infos[i]["terminal_observation"]["image"] == first["image"][i]).all()
        assert (seen["image"][i] != first["image"][i]).any()
    envs.close()


def test_no_lesson_is_a_test(ppo):
    lessons = ppo.lessons(1, seed=0).unwrapped.setup.split.images
    tests = ppo.make(1).unwrapped.setup.split.images
    assert (len(lessons), len(tests)) == (1147, 650)
    # The digits hold some images twice, to the pixel.
    twice = (torch.cdist(tests.flatten(1), lessons.flatten(1)).amin(1) == 0).sum()
    assert twice <= 3


def test_the_single_environment_is_taken_as_it_is(ppo):
    env = LowFrequency(gymnasium.make("arena/BlackBox-v0", device="cpu", reward="margin"))
    model = ppo.PPO("MultiInputPolicy", env, n_steps=16, batch_size=16, device="cpu").learn(16)
    assert model.predict(env.reset(seed=0)[0])[0].shape == (1, 4, 4)


def test_all_policies_play_the_same_games(ppo):
    torch.set_num_threads(1)
    policies = ppo.policies(ppo.learn(512, seed=0), seed=0)
    assert [*policies] == ["random, uniform", "random, -1 or 1", "PPO"]
    first: dict[str, np.ndarray] = {}

    def watched(name):
        def policy(observation):
            first.setdefault(name, observation["image"])
            action = policies[name](observation)
            assert action.shape == (60, 1, 4, 4) and action.dtype == np.float32
            return action

        return policy

    wins = {name: ppo.won(watched(name), games=60) for name in policies}
    assert all((first[name] == first["PPO"]).all() for name in policies)
    assert all(w.dtype == bool and w.shape == (60,) for w in wins.values())
    assert 0 < wins["random, -1 or 1"].sum() < 30
    assert not ppo.won(lambda seen: np.zeros((60, 1, 4, 4), dtype=np.float32), games=60).any()
