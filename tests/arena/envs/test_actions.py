from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from arena.envs import BlackBoxEnv
from arena.envs.actions import Actions
from arena.rules.moves import VolleyError
from arena.rules.threat import Threat

FIRST = np.float32([1, 0, 0, 0]).reshape(4, 1, 1, 1)


def test_who_does_not_send_is_not_charged(ground):
    env = ground.vector(objective="minimum", epsilon=1.0)
    obs, _ = env.reset()
    first, reward, *_ = env.step(ground.lost(obs), send=np.array([True] * 4))
    assert (reward > 0).all() and first["has_best"].all()
    image = np.full((4, 1, 8, 8), np.nan, dtype=np.float32)
    image[2] = obs["image"][2]
    second, reward, _, _, info = env.step(image, send=[0, 0, 1, 0])
    assert info["turn"].tolist() == [1, 1, 2, 1] and second["left"][:, 0].tolist() == [5, 5, 4, 5]
    assert reward.tolist() == [0, 0, 0, 0]
    for name in obs:
        for i in (0, 1, 3):
            assert (second[name][i] == first[name][i]).all(), name
    assert second["answer_label"][2] == obs["label"][2] != first["answer_label"][2]


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda x: x[:3], r"image must be an array or a tensor \[4, 1, 8, 8\]; found \[3, 1, 8, 8\]"),
        (lambda x: x.tolist(), "found list"),
        (lambda x: x.astype(np.float64), "image must be float32; found float64"),
        (lambda x: torch.tensor(x).double(), "images must be float32; found torch.float64"),
        (lambda x: x.astype(object), "image must be float32; found object"),
        (lambda x: x + 1, r"images must lie in \[0,1\]"),
        (lambda x: np.where(x == x.max(), np.nan, x).astype(np.float32), "images must be finite"),
        (lambda x: {"submit": np.ones(4)}, "an action holds image, and may hold submit; found submit"),
        (lambda x: {"perturbation": x}, "an action holds image, and may hold submit; found perturbation"),
        (
            lambda x: {"image": x, "send": np.ones(4)},
            r"found image, send; who does not send is told by step\(actions, send=mask\)",
        ),
        (lambda x: {"image": x, "account": np.zeros(4)}, "may hold submit; found image, account"),
        (
            lambda x: {"image": x, "submit": np.ones(3)},
            r"submit must be booleans \(or 0 and 1\) \[4\]; found float64 \[3\]",
        ),
        (lambda x: {"image": x, "submit": np.full(4, 2)}, r"submit must hold 0 or 1 for each game"),
        (lambda x: {"image": x + FIRST, "submit": np.array([1, 0, 0, 0])}, r"images must lie in \[0,1\]"),
        (lambda x: {"image": x + FIRST, "submit": np.array([0, 1, 0, 0])}, r"images must lie in \[0,1\]"),
    ],
)
def test_a_malformed_action_charges_nothing(ground, tape, action, message):
    env = ground.vector(objective="submit", listener=tape)
    obs, _ = env.reset()
    obs, *_ = env.step(obs["image"])
    with pytest.raises(VolleyError, match=message):
        env.step(action(obs["image"]))
    for send, message in (
        (np.ones(3), r"send must be booleans \(or 0 and 1\) \[4\]"),
        ([2] * 4, "send must hold 0 or 1"),
    ):
        with pytest.raises(VolleyError, match=message):
            env.step(obs["image"], send=send)
    again, _, terminated, _, info = env.step(obs["image"], send=np.zeros(4, dtype=int))
    assert info["turn"].tolist() == [1] * 4 and not terminated.any()
    assert all((again[name] == obs[name]).all() for name in obs)


def test_a_malformed_action_of_the_one_game(ground):
    env = BlackBoxEnv(**ground.options(accounts=2))
    obs, _ = env.reset()
    for action, message in [
        (obs["image"][0], r"image must be an array or a tensor \[1, 8, 8\]; found \[8, 8\]"),
        (
            {"image": obs["image"], "send": 1},
            "an action holds image, and may hold account; found image, send",
        ),
        ({"image": obs["image"], "account": 0.5}, r"account must be whole numbers"),
        ({"image": obs["image"], "account": 2}, r"account must be from 0 to 2 \(exclusive\)"),
        ({"image": obs["image"] * 2 + 1, "account": 1}, r"images must lie in \[0,1\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            env.step(action)
    *_, info = env.step({"image": obs["image"], "account": 1})
    assert info["turn"] == 1


def test_a_policy_s_gradient_ends_at_the_environment(ground):
    env = ground.vector(objective="submit", arrays="torch")
    obs, _ = env.reset()
    action = {"image": obs["image"].requires_grad_(), "submit": np.array([0, 0, 0, 1])}
    seen, reward, *_ = env.step(action)
    assert not any(part.requires_grad for part in (*seen.values(), reward))


def test_read_only_arrays_are_accepted(ground):
    env = ground.vector()
    obs, _ = env.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env.step(np.broadcast_to(obs["image"][:1], (4, 1, 8, 8)))


class Near(torch.Tensor):
    """A subclass, which may override any arithmetic."""


@pytest.mark.parametrize(
    "made",
    [
        lambda x: x.as_subclass(Near),
        lambda x: x.to_sparse(),
        lambda x: torch._to_functional_tensor(x),
        lambda x: torch.nested.nested_tensor(list(x)),
    ],
    ids=["subclass", "sparse", "functional", "nested"],
)
@pytest.mark.parametrize("kind", ["image", "perturbation"])
def test_pixels_and_numbers_are_plain_tensors(made, kind):
    threat = Threat(epsilon=0.1, budget=3, accounts=2)
    actions = Actions(threat, 2, (1, 2, 2), torch.device("cpu"), kind)
    x0, plain = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    with pytest.raises(VolleyError, match=f"{kind} must be an array or a tensor") as told:
        actions.several(made(plain), x0)
    assert "\n" not in str(told.value)
    assert actions.several(torch.nn.Parameter(plain), x0).image.shape == plain.shape
    account = torch.ones(2, requires_grad=True)
    with pytest.raises(VolleyError, match=r"account must be whole numbers \[2\]; found float32 \[2\]"):
        actions.several({kind: plain, "account": account}, x0)
