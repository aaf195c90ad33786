from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from torch import nn

from arena.envs import BlackBoxEnv, BlackBoxVectorEnv
from arena.envs.margins import shown_margin

FEEDBACKS = ("logits", "probabilities", "topk:3", "label")
OBJECTIVES = ("first", "submit", "minimum")


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_minimum_pays_the_fall_of_the_log_distance(ground, norm):
    env = ground.vector(norm=norm, epsilon="inf", objective="minimum", budget=4)
    obs, _ = env.reset()
    farthest = 1.0 if norm == "linf" else 8.0
    assert obs["best_distance"][:, 0].tolist() == [farthest] * 4
    best, total = np.full(4, farthest), np.zeros(4)
    for epsilon in (0.5, 0.9, 0.4, 0.0):
        image = ground.lost(obs, epsilon)
        delta = (image - obs["image"]).astype(np.float64).reshape(4, -1)
        distance = abs(delta).max(1) if norm == "linf" else np.sqrt((delta**2).sum(1))
        fell = np.minimum(best, distance) if epsilon else best  # the clean image is no hit
        now, reward, terminated, _, info = env.step(image)
        assert np.allclose(reward, np.log(best) - np.log(fell), atol=1e-5)
        best, total = fell, total + reward
        assert np.allclose(now["best_distance"][:, 0], best, rtol=1e-6) and now["has_best"].all()
    assert terminated.all() and np.allclose(total, math.log(farthest) - np.log(best), atol=1e-5)
    assert np.allclose(info[norm], best, rtol=1e-6)


def test_a_hit_at_no_distance_pays_a_finite_reward(ground, defenders):
    env = ground.vector(objective="minimum", epsilon=1.0, budget=1, defender=[defenders["noise"](1e4)])
    obs, _ = env.reset()
    obs, reward, *_ = env.step(obs["image"])
    hit = obs["has_best"] > 0
    assert hit.any() and np.allclose(reward, np.where(hit, math.log(1e6), 0))


@pytest.mark.parametrize("feedback", ["logits", "probabilities", "topk:3"])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("goal", ["untargeted", "targeted"])
def test_margin_pays_the_fall_of_the_lowest_margin_shown(ground, defenders, feedback, objective, goal):
    rules = {"feedback": feedback, "objective": objective, "goal": goal, "epsilon": 0.5, "budget": 9}
    noise = [defenders["noise"](2.0)]
    env = ground.vector(mode="Disabled", defender=noise, reward="margin", **rules)
    plain = ground.vector(mode="Disabled", defender=noise, **rules)
    obs, _ = env.reset()
    plain.reset()
    assert (
        obs["best_margin"][:, 0].tolist() == [1] * 4 and "best_margin" not in plain.observation_space.spaces
    )
    to = torch.from_numpy(obs["target"] if goal == "targeted" else obs["label"])
    lowest, total, open_ = np.ones(4), np.zeros(4), np.ones(4, dtype=bool)
    for turn in range(9):
        image = (obs["image"] + np.random.default_rng(turn).uniform(-0.3, 0.3, obs["image"].shape)).clip(0, 1)
        image, sent = image.astype(np.float32), open_
        obs, reward, ended, *_ = env.step(image, send=sent)
        _, sparse, *_ = plain.step(image, send=sent)
        shown = shown_margin(torch.from_numpy(obs["answer_scores"]), to, env.threat).numpy()
        now = np.where(sent, np.minimum(lowest, shown), lowest)
        assert np.allclose(reward - sparse, lowest - now, atol=1e-6)
        assert np.allclose(obs["best_margin"][:, 0], now, atol=1e-6)
        lowest, total, open_ = now, total + reward - sparse, open_ & ~ended
    assert np.allclose(total, 1 - lowest, atol=1e-5) and (lowest < 0.9).any() and len({*lowest}) > 1


def test_margin_pays_for_what_was_answered_inside_the_ball_alone(ground, defenders):
    env = ground.vector(reward="margin", epsilon=0.1, budget=9, defender=defenders["patience"](2))
    obs, _ = env.reset()
    seen, reward, *_ = env.step(ground.lost(obs, 0.5))
    assert (seen["answer_label"] != obs["label"]).all() and not reward.any()
    _, reward, *_ = env.step(obs["image"])
    assert (reward > 0).all() and (reward < 1).all()
    seen, reward, *_ = env.step(ground.lost(obs, 0.1))
    assert seen["refused"].all() and not reward.any()
    _, _ = env.reset()
    _, again, *_ = env.step(env.reset(seed=5)[0]["image"])
    assert (again > 0).all(), "a new game begins at 1"


def test_submit_pays_for_what_was_answered_with_a_hit(ground):
    env = ground.vector(n=6, objective="submit", epsilon=0.5, budget=4)
    obs, _ = env.reset()
    near, far = ground.lost(obs, 0.45), ground.lost(obs, 0.5)
    zeros = np.zeros(6, dtype=np.int64)
    for image in (near, far, near * 0 + obs["image"]):
        _, reward, terminated, *_ = env.step({"image": image, "submit": zeros})
        assert not reward.any() and not terminated.any()
    image = obs["image"].copy()  # 0: the last one asked, no hit
    image[1] = far[1]  # the best one: the lowest margin
    image[2] = ground.lost(obs, 0.48)[2]  # never asked
    image[3] = 1 - image[3]  # outside the ball
    image[4] = 0.5  # asks once more: the budget ends the game, the best one counts
    send = np.array([1, 1, 1, 1, 1, 0])
    submit = np.array([1, 1, 1, 1, 0, 1])
    _, reward, terminated, _, info = env.step({"image": image, "submit": submit}, send=send)
    assert terminated.tolist() == [True] * 5 + [False]
    assert reward.tolist() == [0, 1, 0, 0, 1, 0]
    assert info["reason"].tolist() == ["submitted"] * 4 + ["budget", None]
    assert info["base"].tolist()[:5] == [False, True, True, False, True]
    assert info["queries"].tolist() == [3, 3, 3, 3, 4, 0]


def test_submitting_the_last_hit_asked_pays(ground):
    env = BlackBoxEnv(**ground.options(objective="submit", epsilon=0.5))
    obs, _ = env.reset()
    batch = {name: np.asarray(part)[None] for name, part in obs.items()}
    far, near = (ground.lost(batch, e)[0] for e in (0.5, 0.45))
    env.step({"image": far, "submit": 0})
    _, reward, terminated, *_ = env.step({"image": near, "submit": 0})
    assert not terminated and reward == 0
    obs, reward, terminated, _, info = env.step({"image": near, "submit": 1})
    assert terminated and reward == 1 and info["reason"] == "submitted" and info["turn"] == 2
    assert info["linf"] == pytest.approx(0.45, abs=1e-6) and obs["left"] == 4
    with pytest.raises(ResetNeeded):
        env.step({"image": near, "submit": 1})


def test_refused_and_banned(ground, defenders):
    env = ground.vector(defender=defenders["patience"](2), budget=5, accounts=1)
    obs, _ = env.reset()
    for turn in range(1, 6):
        seen, _, terminated, _, info = env.step(obs["image"])
        late = turn > 2
        assert (seen["refused"] == late).all() and (seen["answered"] == (not late)).all()
        assert (seen["has_scores"] == (not late)).all() and (seen["has_label"] == (not late)).all()
        assert not (late and (seen["answer_scores"].any() or seen["answer_label"].any()))
    assert terminated.all() and info["refused"].tolist() == [3] * 4
    obs, *_ = env.step(obs["image"])  # new games
    seen, *_ = env.step(obs["image"])
    assert seen["answered"].all(), "a new game must not be refused for what the last one asked"
    env = ground.vector(defender=defenders["patience"](2, ban=True), accounts=2)
    obs, _ = env.reset()
    account = np.array([0, 1, 0, 1])
    for turn in range(1, 4):
        seen, _, terminated, *_ = env.step({"image": obs["image"], "account": account})
        assert (seen["banned"].sum(1) == (turn > 2)).all() and not terminated.any()
    assert (seen["banned"][np.arange(4), account] == 1).all()
    _, _, terminated, _, info = env.step({"image": obs["image"], "account": 1 - account})
    assert terminated.all() and set(info["reason"]) == {"banned"}


class Broken(nn.Module):
    """Right on clean images, NaN, infinite or huge elsewhere."""

    def __init__(self, inner, value):
        super().__init__()
        self.inner, self.value = inner, value

    def forward(self, x):
        z = self.inner(x)
        odd = (x == 0.25).flatten(1).all(1)
        z[odd, 3] = self.value
        return z


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_a_broken_classifier_does_not_break_observations(ground, value, feedback):
    options = ground.options(feedback=feedback) | {"classifier": Broken(ground.model, value)}
    env = BlackBoxVectorEnv(num_envs=4, **options)
    env.reset()
    obs, *_ = env.step(np.full((4, 1, 8, 8), 0.25, dtype=np.float32))
    assert obs in env.observation_space and obs["answered"].all()
    assert (obs["has_label"] == (not math.isnan(value))).all()
    if feedback == "label" or math.isnan(value):
        assert not obs["has_scores"].any() and not obs["answer_scores"].any()
    elif feedback == "logits":
        assert obs["has_scores"].all() and (obs["answer_scores"][:, 3] == 1e6).all()


def test_the_attacker_s_image_is_its_own(ground):
    env = ground.vector(objective="submit", arrays="torch", epsilon=0.5)
    obs, _ = env.reset()
    image = ground.winning(obs["image"], obs["label"], 0.5)
    hit = image.clone()
    env.step({"image": image})
    image.zero_()
    _, reward, *_ = env.step({"image": hit, "submit": np.ones(4, dtype=int)})
    assert reward.tolist() == [1] * 4


def test_what_is_left_is_resigned(ground, tape):
    env = ground.vector(listener=tape)
    obs, start = env.reset()
    env.step(obs["image"], send=np.array([1, 1, 0, 0]))
    _, second = env.reset()
    env.close()
    assert [rows.reason for rows in tape.endings] == [["resigned"] * 4] * 2
    assert tape.endings[0].queries.tolist() == [1, 1, 0, 0]
    assert [rows.key.tolist() for rows in tape.endings] == [start["key"].tolist(), second["key"].tolist()]


@pytest.mark.parametrize("quantisation", ["round", "floor"])
def test_quantised_images_are_shown_and_submitted(ground, quantisation):
    env = ground.vector(quantisation=quantisation, objective="submit", epsilon=0.5)
    obs, _ = env.reset()
    levels = obs["image"] * 255
    assert np.allclose(levels, np.round(levels), atol=1e-3)
    image = ground.lost(obs, 0.45)
    env.step({"image": image})
    _, reward, *_ = env.step({"image": image, "submit": np.ones(4, dtype=int)})
    assert reward.tolist() == [1] * 4
