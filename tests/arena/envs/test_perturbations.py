from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from arena.envs import BlackBoxEnv, BlackBoxVectorEnv
from arena.envs.perturbations import perturbed
from arena.rules.geometry import distance, quantise
from arena.rules.moves import VolleyError
from arena.rules.threat import TOLERANCE, Threat

MIDDLE = torch.full((1, 1, 2, 2), 0.5)
ACTION = torch.tensor([[[[0.5, -0.25], [0.0, 0.25]]]])


def rules(**change):
    return Threat(**{"norm": "linf", "epsilon": 0.2, "budget": 1, "objective": "minimum"} | change)


def test_linf_adds_epsilon_times_the_action_and_stays_in_the_box():
    assert torch.equal(perturbed(MIDDLE, ACTION, rules()), 0.5 + 0.2 * ACTION)
    assert perturbed(MIDDLE, 9 * ACTION, rules()).flatten().tolist() == pytest.approx([0.7, 0.3, 0.5, 0.7])
    assert perturbed(MIDDLE + 0.45, ACTION, rules()).flatten().tolist() == pytest.approx([1, 0.9, 0.95, 1])


def test_l2_goes_in_the_action_s_direction_as_far_as_its_largest_entry_says():
    x = perturbed(MIDDLE, ACTION, rules(norm="l2"))
    step = (x - MIDDLE).flatten()
    assert step.norm().item() == pytest.approx(0.2 * 0.5, abs=1e-6)
    assert torch.allclose(step / step.norm(), ACTION.flatten() / ACTION.norm(), atol=1e-5)
    one = torch.zeros_like(ACTION)
    one[..., 0, 1] = -1  # all of the ball may go to one pixel
    assert perturbed(MIDDLE, one, rules(norm="l2"))[..., 0, 1].item() == pytest.approx(0.3, abs=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_without_a_ball_every_image_has_an_action(norm):
    x0, x = torch.rand(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    action = x - x0
    if norm == "l2":  # of length |x - x0| / sqrt(CHW) at its largest entry
        length = action.flatten(1).norm(dim=1) / 8
        action = action * (length / action.flatten(1).abs().amax(1)).view(-1, 1, 1, 1)
    assert torch.allclose(perturbed(x0, action, rules(norm=norm, epsilon="inf")), x, atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("quantisation", ["none", "round", "floor"])
@pytest.mark.parametrize("epsilon", [0.03, 8 / 255, 0.4, 100.0, math.inf])
def test_every_action_stays_in_the_ball(norm, quantisation, epsilon):
    generator = torch.Generator().manual_seed(1)
    x0 = quantise(torch.rand(64, 3, 8, 8, generator=generator), quantisation)
    action = torch.randn(x0.shape, generator=generator)
    action[::2] = action[::2].sign()
    action[0], action[1] = 0, 1e-25
    threat = rules(norm=norm, epsilon=epsilon, quantisation=quantisation)
    x = perturbed(x0, action, threat)
    assert x.min() >= 0 and x.max() <= 1
    assert (distance(quantise(x, quantisation), x0, norm) <= epsilon + TOLERANCE).all()
    assert torch.equal(x[0], x0[0]) and torch.allclose(x[1], x0[1], atol=1e-6)


def test_it_is_the_default_action_and_says_the_same_as_its_image(ground):
    options = {
        name: part for name, part in ground.options(norm="l2", epsilon=1.0).items() if name != "action"
    }
    one, many = BlackBoxEnv(**options), BlackBoxVectorEnv(num_envs=1, **options)
    images = ground.vector(1, norm="l2", epsilon=1.0)
    x0 = torch.from_numpy(images.reset()[0]["image"])
    first = one.reset()[0]["image"], many.reset()[0]["image"]
    assert (first[0] == x0[0].numpy()).all() and (first[1] == x0.numpy()).all()
    one.action_space.seed(0)
    action = one.action_space.sample()
    image = perturbed(x0, torch.from_numpy(action)[None], one.threat).numpy()
    seen = [one.step(action)[0], many.step(action[None])[0], images.step(image)[0]]
    scores = [np.ravel(o["answer_scores"]) for o in seen]
    assert np.ptp(scores, axis=0).max() == 0 and scores[0].any()


def test_what_was_asked_is_what_the_same_action_hands_in(ground):
    env = ground.vector(6, norm="l2", epsilon=8.0, objective="submit", action="perturbation")
    obs, _ = env.reset()
    action = ground.lost(obs, 1.0) - obs["image"]
    seen, *_ = env.step({"perturbation": action, "submit": np.zeros(6, dtype=int)})
    hit = seen["answer_label"] != obs["label"]
    _, reward, terminated, *_ = env.step({"perturbation": action, "submit": np.ones(6, dtype=int)})
    assert terminated.all() and (reward == hit).all() and hit.any()


def test_entries_that_are_not_finite(ground):
    env = ground.vector(action="perturbation")
    obs, _ = env.reset()
    for value in (np.nan, np.inf):
        action = np.zeros_like(obs["image"])
        action[2, 0, 3, 3] = value
        with pytest.raises(VolleyError, match="perturbation must be finite; found NaN or infinite entries"):
            env.step(action)
        *_, info = env.step(action, send=[1, 1, 0, 1])
    assert info["turn"].tolist() == [2, 2, 0, 2]
    with pytest.raises(VolleyError, match="perturbation must be float32; found float64"):
        env.step(np.zeros(obs["image"].shape))
    with pytest.raises(VolleyError, match=r"perturbation must be float32 on cpu; found torch.float64 on cpu"):
        env.step(torch.zeros(obs["image"].shape, dtype=torch.float64))
