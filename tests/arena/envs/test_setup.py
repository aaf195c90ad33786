from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import arena.envs
from arena.envs import BlackBoxVectorEnv
from arena.players import Defender


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None}, "labels must be given with images"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, "one for each of the 40 images"),
        ({"labels": torch.full((40,), 10)}, "labels go up to 10; classifier 'Linear' answers 10 classes"),
        ({"images": torch.full((40, 1, 8, 8), 2.0)}, r"images must be finite and lie in \[0,1\]"),
        ({"images": torch.zeros(40, 8, 8)}, r"images must be float \[n,C,H,W\]"),
        ({"classifier": None}, "images of your own need a classifier of your own"),
        ({"arrays": "jax"}, 'arrays must be "numpy" or "torch"'),
        ({"action": "step"}, 'action must be "perturbation" or "image"; found .step.'),
        ({"reward": "dense"}, 'reward must be "objective" or "margin"; found .dense.'),
        ({"render_mode": "human"}, 'render_mode must be "rgb_array"; found .human.'),
        (
            {"reward": "margin", "threat": {"epsilon": 0.1, "budget": 1, "feedback": "label"}},
            'reward "margin" needs scores; feedback "label" shows none',
        ),
        ({"num_envs": 0}, "num_envs must be at least 1"),
        ({"autoreset_mode": "never"}, "not a valid AutoresetMode"),
        ({"defender": "no-such-defender"}, 'there is no defender "no-such-defender"'),
        ({"labels": ["cat"] * 40}, "labels must be whole numbers .* found list of str"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"dataset": {"nam": "npz"}}, "DatasetSpec.name: this key is missing"),
        ({"dataset": {"name": "npz", "pth": "x"}}, r'pth: there is no such key; did you mean "path"\?'),
        ({"dataset": 3}, "DatasetSpec: found 3; "),
        (
            {"dataset": "digits", "classifier": {"compile": False}},
            "ClassifierSpec.network: this key is missing",
        ),
        ({"threat": {"epsilon": 0.1, "budgt": 1}}, r'budgt: there is no such key; did you mean "budget"\?'),
        ({"threat": {"epsilon": -1, "budget": 1}}, "epsilon must be a positive number"),
    ],
)
def test_bad_options(ground, change, message):
    with pytest.raises(ValueError, match=message):
        BlackBoxVectorEnv(**{"num_envs": 2, **ground.options(), **change})


def test_the_default_is_the_digits():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", 'render_mode="human" shows nothing')  # where there is no display
        env = gymnasium.make("arena/BlackBox-v0")
        check_env(env.unwrapped)
    assert env.observation_space["image"].shape == (1, 8, 8)
    assert env.unwrapped.threat == arena.envs.DEFAULT_THREAT
    assert len(list(itertools.islice(env.observation_space, 20))) == 13


@dataclass(frozen=True)
class Tuned(Defender):
    """Prepares itself on the calibration split."""

    images: int = 0

    def fit(self, classifier, splits):
        return Tuned(images=len(splits.calibration) + len(splits.train))


def test_a_defender_prepares_itself_on_the_dataset(ground):
    env = BlackBoxVectorEnv(defender=Tuned(), dataset="digits")
    assert env.setup.stack.defenders == (Tuned(images=1000),)
    with pytest.raises(ValueError, match="give the environment a dataset"):
        BlackBoxVectorEnv(defender=Tuned(), **ground.options())


def test_images_of_the_callers_own_are_copied():
    x, y = np.full((3, 1, 8, 8), 0.5, np.float32), np.arange(3)
    env = BlackBoxVectorEnv(images=x, labels=y, dataset="digits")
    x[:], y[:] = 0, 0
    assert env.setup.split.labels.tolist() == [0, 1, 2] and float(env.setup.split.images.min()) == 0.5


def test_a_classifier_and_a_stack_by_name(ground):
    env = BlackBoxVectorEnv(
        defender=[{"name": "snd", "sigma": 0.01}, "none"], dataset="digits", classifier="digits-cnn"
    )
    assert [type(d).__name__ for d in env.setup.stack.defenders] == ["SND", "NoDefense"]
    own = BlackBoxVectorEnv(images=np.zeros((3, 1, 8, 8), np.float32), labels=[0, 1, 2], dataset="digits")
    assert env.setup.stack.base.sha == own.setup.stack.base.sha
    assert len(own.setup.split) == 3 and len(env.setup.split) == 650


def test_a_dataset_as_a_scenario_says_it(tmp_path):
    x, y = np.random.default_rng(0).random((40, 1, 8, 8), np.float32), np.arange(40) % 4
    np.savez(tmp_path / "own.npz", x=x, y=y)
    env = BlackBoxVectorEnv(
        dataset={"name": "npz", "path": str(tmp_path / "own.npz")}, classifier={"network": "digits-cnn"}
    )
    assert env.setup.shape == (1, 8, 8) and len(env.setup.split) == 16


def test_a_function_that_a_text_names_is_not_called(tmp_path, monkeypatch):
    (tmp_path / "named_factory.py").write_text("def net():\n    raise AssertionError\n")
    monkeypatch.syspath_prepend(tmp_path)
    for classifier in ("named_factory:net", {"network": "named_factory:net"}):
        with pytest.raises(ValueError, match="is a function, which is called only where you trust it"):
            BlackBoxVectorEnv(dataset="digits", classifier=classifier)
