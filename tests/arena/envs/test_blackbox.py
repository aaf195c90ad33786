from __future__ import annotations

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from arena.envs import BlackBoxEnv, BlackBoxVectorEnv
from arena.rules.moves import VolleyError

FEEDBACKS = ("logits", "probabilities", "topk:3", "label")
OBJECTIVES = ("first", "submit", "minimum")


@pytest.mark.parametrize("feedback", FEEDBACKS)
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(
    ("action", "goal", "accounts"), [("image", "untargeted", 1), ("perturbation", "targeted", 2)]
)
def test_check_env_finds_nothing_to_warn_of(ground, feedback, objective, action, goal, accounts):
    threat = {"feedback": feedback, "objective": objective, "goal": goal, "accounts": accounts}
    options = ground.options(**threat) | {"action": action}
    for reward in ("objective",) if feedback == "label" else ("objective", "margin"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            env = gymnasium.make("arena/BlackBox-v0", reward=reward, **options)
            check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_observations_stay_in_their_space(ground, defenders, norm, objective, mode):
    stack = [defenders["noise"](30.0), defenders["patience"](4)]
    env = ground.vector(
        mode=mode,
        defender=stack,
        norm=norm,
        epsilon=30.0 if norm == "l2" else 0.9,
        objective=objective,
        accounts=3,
    )
    env.action_space.seed(0)
    obs, _ = env.reset(seed=1)
    ends, hits, rng = 0, 0, np.random.default_rng(0)
    turn, over = np.zeros(4, dtype=int), np.zeros(4, dtype=bool)
    for _ in range(25):
        assert obs in env.observation_space
        assert all(np.isfinite(part).all() for part in obs.values())
        action = env.action_space.sample()
        send = rng.integers(0, 2, 4)
        asks = send * (1 - action.get("submit", 0)) * ~over
        obs, reward, terminated, truncated, info = env.step(action, send=send)
        assert np.isfinite(reward).all() and not truncated.any()
        dealt = over if mode == "NextStep" else terminated
        assert (info["turn"] == np.where(dealt, 0, turn + asks)).all()
        turn, over = info["turn"], terminated & (mode == "NextStep")
        ends, hits = ends + terminated.sum(), hits + obs["has_best"].sum() + (reward > 0).sum()
        for final in info.get("final_obs", []):
            assert final is None or final in env.single_observation_space
    assert ends > 4 and hits > 0


def test_make_vec_takes_our_own_vector_environment(ground):
    own = gymnasium.make_vec("arena/BlackBox-v0", num_envs=3, **ground.options())
    named = gymnasium.make_vec(
        "arena/BlackBox-v0", num_envs=2, vectorization_mode="vector_entry_point", **ground.options()
    )
    sync = gymnasium.make_vec("arena/BlackBox-v0", num_envs=3, vectorization_mode="sync", **ground.options())
    assert isinstance(own, BlackBoxVectorEnv) and isinstance(named, BlackBoxVectorEnv)
    assert own.observation_space == sync.observation_space
    assert own.action_space == sync.action_space and own.single_action_space == sync.single_action_space
    assert own.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    image = np.zeros((3, 1, 8, 8), dtype=np.float32)
    for env in (own, sync):  # an action of the one is an action of the other
        env.reset(seed=0)
        assert env.step(image)[0]["left"].tolist() == [[5], [5], [5]]


@pytest.mark.parametrize("action", ["perturbation", "image"])
def test_the_vector_environment_has_the_single_one_s_actions(ground, action):
    options = ground.options(objective="submit", accounts=2) | {"action": action}
    one, many = BlackBoxEnv(**options), BlackBoxVectorEnv(num_envs=3, **options)
    assert many.single_action_space == one.action_space
    assert many.action_space == batch_space(one.action_space, 3)
    many.reset()
    many.action_space.seed(0)
    assert many.step(many.action_space.sample())[0] in many.observation_space
    low = {"perturbation": -1, "image": 0}[action]
    assert one.action_space[action] == gymnasium.spaces.Box(low, 1, (1, 8, 8), np.float32)


def test_it_is_found_by_its_module_where_gymnasium_alone_was_imported():
    code = (
        "import gymnasium\n"
        "name = 'arena:arena/BlackBox-v0'\n"
        "print(gymnasium.make(name).unwrapped, gymnasium.make_vec(name, num_envs=2))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.startswith("<BlackBoxEnv<arena/BlackBox-v0>> BlackBoxVectorEnv("), run.stderr


def test_the_same_seed_and_actions_give_the_same_rewards(ground, defenders):
    def play(seed):
        options = {"action": "perturbation", "reward": "margin", "objective": "minimum", "norm": "l2"}
        env = ground.vector(defender=defenders["noise"](2.0), epsilon=2.0, **options)
        env.reset(seed=seed)
        env.action_space.seed(0)
        return [env.step(env.action_space.sample())[1].tolist() for _ in range(8)]

    assert play(1) == play(1) != play(2)


def test_wrappers_count_episodes(ground):
    env = gymnasium.wrappers.vector.RecordEpisodeStatistics(ground.vector())
    obs, _ = env.reset()
    for _ in range(6):
        obs, _, terminated, _, info = env.step(obs["image"])
    assert terminated.all() and info["episode"]["l"].tolist() == [6] * 4


def test_one_forward_pass_answers_all_who_send(ground):
    env = ground.vector(n=8)
    obs, _ = env.reset()
    model = env.setup.stack.base.module
    for send in ([1] * 8, [1, 0, 1, 0, 0, 0, 1, 1]):
        before = model.passes
        env.step(obs["image"], send=np.array(send))
        assert model.passes == before + 1


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_budget_terminates(ground, objective):
    env = BlackBoxEnv(**ground.options(objective=objective, budget=3))
    obs, info = env.reset()
    action = {"image": obs["image"], "submit": 0} if objective == "submit" else obs["image"]
    ends = [env.step(action) for _ in range(3)]
    assert [end[2] for end in ends] == [False, False, True] and not any(end[3] for end in ends)
    last = ends[-1][4]
    assert last["reason"] == "budget" and last["queries"] == last["turn"] == 3 and not last["answered"]
    assert "l2" not in last and ends[-1][0]["left"] == 0
    with pytest.raises(ResetNeeded, match=r"call reset\(\) first"):
        env.step(action)
    _, info = env.reset()
    assert info["turn"] == 0


def test_no_step_before_the_first_reset(ground):
    for env in (BlackBoxEnv(**ground.options()), ground.vector()):
        with pytest.raises(ResetNeeded, match=r"call reset\(\) first"):
            env.step(np.zeros((1, 8, 8), dtype=np.float32))
        env.close()
        env.close()


def test_a_hit_ends_the_game_under_first(ground, tape):
    env = ground.vector(epsilon=0.5, listener=tape)
    obs, start = env.reset()
    image = obs["image"].copy()
    image[1::2] = ground.lost(obs)[1::2]
    obs, reward, terminated, _, info = env.step(image)
    assert reward.tolist() == [0, 1, 0, 1] and terminated.tolist() == [False, True, False, True]
    assert info["reason"].tolist() == [None, "hit", None, "hit"]
    assert (info["_reason"] == terminated).all()
    (rows,) = tape.endings
    assert rows.game.tolist() == [1, 3] and rows.key.tolist() == start["key"][[1, 3]].tolist()
    assert np.allclose(info["linf"][[1, 3]], rows.linf) and (rows.linf <= 0.5 + 1e-6).all()
    assert info["vote"].tolist() == [0, 1, 0, 1] and info["base"].tolist() == [False, True, False, True]
    assert np.allclose(obs["best_distance"][:, 0], [1, rows.linf[0], 1, rows.linf[1]])
    assert obs["left"][:, 0].tolist() == [5] * 4


def test_the_reset_step_of_next_step(ground, tape):
    env = ground.vector(epsilon=0.5, listener=tape)
    obs, start = env.reset()
    image = obs["image"].copy()
    image[1] = ground.lost(obs)[1]
    over, *_ = env.step(image)
    garbage = np.where(np.arange(4)[:, None, None, None] == 1, np.nan, obs["image"]).astype(np.float32)
    new, reward, terminated, _, info = env.step(garbage)
    assert info["turn"].tolist() == [2, 0, 2, 2] and reward.tolist() == [0] * 4 and not terminated.any()
    assert (info["key"] != start["key"]).tolist() == [False, True, False, False]
    assert not new["answered"][1] and new["left"][1] == 6 and new["best_distance"][1] == 1
    assert (new["image"][1] != over["image"][1]).any() and over["answered"][1]
    assert (new["image"][1] == ground.images[info["key"][1]].numpy()).all()
    *_, info = env.step(obs["image"])
    assert info["turn"].tolist() == [3, 1, 3, 3]
    assert len(tape.endings) == 1


def test_a_malformed_action_deals_nothing(ground):
    env = ground.vector(epsilon=0.5)
    obs, start = env.reset()
    env.step(ground.lost(obs))
    with pytest.raises(VolleyError):
        env.step(obs["image"][:2])
    *_, info = env.step(obs["image"])
    assert info["turn"].tolist() == [0] * 4
    assert not set(info["key"].tolist()) & set(start["key"].tolist())


def test_same_step(ground):
    env = ground.vector(mode=AutoresetMode.SAME_STEP, epsilon=0.5)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    obs, start = env.reset()
    image = obs["image"].copy()
    image[2] = ground.lost(obs)[2]
    new, reward, terminated, _, info = env.step(image)
    assert terminated.tolist() == [False, False, True, False] and reward[2] == 1
    final = info["final_obs"][2]
    assert info["_final_obs"].tolist() == terminated.tolist() and info["final_obs"][0] is None
    assert (final["image"] == obs["image"][2]).all() and final["answered"] and final["left"] == 5
    assert info["final_info"]["reason"][2] == "hit" and info["final_info"]["key"][2] == start["key"][2]
    assert info["turn"].tolist() == [1, 1, 0, 1] and info["key"][2] != start["key"][2]
    assert new["left"][:, 0].tolist() == [5, 5, 6, 5]


def test_autoreset_disabled(ground):
    env = ground.vector(mode=AutoresetMode.DISABLED, epsilon=0.5)
    obs, start = env.reset()
    image = obs["image"].copy()
    image[:2] = ground.lost(obs)[:2]
    env.step(image)
    with pytest.raises(ResetNeeded, match=r"environments \[0, 1\] are over"):
        env.step(image)
    send = np.array([0, 0, 1, 1])
    _, reward, terminated, _, info = env.step(obs["image"], send=send)
    assert terminated.tolist() == [True, True, False, False] and "reason" not in info
    assert info["turn"].tolist() == [1, 1, 2, 2] and not reward.any()
    mask = np.array([False, True, False, True])
    _, info = env.reset(options={"reset_mask": mask})
    assert (info["key"] != start["key"]).tolist() == mask.tolist() and info["turn"].tolist() == [1, 0, 2, 0]
    for bad in (np.ones(4), np.ones(3, dtype=bool), [True] * 4):
        with pytest.raises(ValueError, match=r"reset_mask must be a numpy array of bool \[4\]"):
            env.reset(options={"reset_mask": bad})
    with pytest.raises(ValueError, match="no seed"):
        env.reset(seed=1, options={"reset_mask": mask})


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
        ),
    ],
)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_tensors_and_arrays_tell_the_same(ground, device, objective):
    options = ground.options(objective=objective, epsilon=0.5, goal="targeted") | {"device": device}
    arrays = BlackBoxVectorEnv(num_envs=4, **options)
    tensors = BlackBoxVectorEnv(num_envs=4, arrays="torch", **options)
    a, _ = arrays.reset()
    t, _ = tensors.reset()
    for step in range(9):
        for name, part in t.items():
            assert isinstance(part, torch.Tensor) and part.device == tensors.device
            assert (part.cpu().numpy() == a[name]).all()
            assert a[name].dtype == arrays.observation_space[name].dtype
        wave = torch.sin(torch.arange(64.0, device=tensors.device) * step).view(1, 1, 8, 8)
        image = (t["image"] + 0.3 * wave).clamp(0, 1)
        action = {"image": image}
        send = torch.tensor([True, step % 2 == 0, True, True], device=image.device)
        if objective == "submit":
            action["submit"] = torch.tensor([step == 3] * 4)
        t, *signals, _ = tensors.step(action, send=send)
        a, *expected, _ = arrays.step(
            {name: part.cpu().numpy() for name, part in action.items()}, send=send.cpu().numpy()
        )
        for got, want in zip(signals, expected, strict=True):
            assert got.device == tensors.device and np.allclose(got.cpu().numpy(), want)


def test_what_was_returned_does_not_change_later(ground):
    for arrays in ("numpy", "torch"):
        env = ground.vector(epsilon=0.5, arrays=arrays)
        obs, _ = env.reset()
        image = obs["image"]
        kept = []
        for _ in range(9):
            kept.append(
                (
                    obs,
                    {name: part.copy() if arrays == "numpy" else part.clone() for name, part in obs.items()},
                )
            )
            obs, *_ = env.step(image)
        assert all((was == now[name]).all() for now, copy in kept for name, was in copy.items())
