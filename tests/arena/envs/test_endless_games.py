from __future__ import annotations

import pytest

from arena.envs import BlackBoxEnv, BlackBoxVectorEnv


def test_seeds(ground, defenders):
    def play(env, seed):
        obs, info = env.reset(seed=seed)
        steps = [(obs, info["key"])]
        for _ in range(8):
            obs, _, _, _, info = env.step(obs["image"])
            steps.append((obs, info["key"]))
        return steps

    def same(a, b):
        return all(
            (x[name] == y[name]).all() for (x, _), (y, _) in zip(a, b, strict=True) for name in x
        ) and all((x[1] == y[1]).all() for x, y in zip(a, b, strict=True))

    env = ground.vector(defender=defenders["noise"](3.0), goal="targeted", budget=3)
    unseeded = play(env, None)
    assert same(unseeded, play(env, 5)), "the constructor's seed is that of the first reset"
    assert not same(unseeded, play(env, 6))
    assert same(unseeded, play(env, 5))
    later = play(env, None)
    assert not same(unseeded, later), "a reset without seed goes on"
    one = {**ground.options(), "seed": None}
    orders = [[BlackBoxVectorEnv(num_envs=8, **one).reset()[1]["key"].tolist()] for _ in range(2)]
    assert orders[0] != orders[1], "without any seed, games are drawn afresh"


def test_images_come_back_in_later_passes_as_other_games(ground, defenders, tape):
    env = ground.vector(10, "Disabled", defender=defenders["noise"](), goal="targeted", listener=tape)
    seen = {}
    for reset in range(6):
        obs, info = env.reset()
        now, *_ = env.step(obs["image"])
        for i, key in enumerate(info["key"].tolist()):
            assert key // 40 == reset // 3, "a pass deals 30 images"
            assert (obs["image"][i] == ground.images[key % 40].numpy()).all()
            seen[key] = (now["answer_scores"][i], int(obs["target"][i]), int(obs["label"][i]))
    assert tape.clean == [True] * 60
    assert sorted(seen) == sorted([*ground.right, *(40 + i for i in ground.right)])
    orders = [[k % 40 for k in seen if k // 40 == p] for p in (0, 1)]
    assert orders[0] != orders[1]
    twice = [(seen[i], seen[40 + i]) for i in ground.right]
    assert all((a[0] != b[0]).any() for a, b in twice)
    assert any(a[1] != b[1] for a, b in twice) and all(t != y for _, t, y in seen.values())


def test_more_games_than_images(ground):
    env = ground.vector(n=70)
    _, info = env.reset()
    passes = [sorted(k % 40 for k in info["key"].tolist() if k // 40 == p) for p in range(3)]
    assert passes[0] == passes[1] == ground.right and len(passes[2]) == 10 and len(set(passes[2])) == 10


def test_a_classifier_that_is_always_wrong(ground):
    options = ground.options() | {"labels": (ground.labels + 3) % 10}
    options["labels"] = (ground.model(ground.images).argmax(1) + 1) % 10
    with pytest.raises(ValueError, match="gets all 40 images wrong: there is nothing to attack"):
        BlackBoxEnv(**options).reset()
