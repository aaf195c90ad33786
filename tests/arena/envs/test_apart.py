from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from arena.envs import BlackBoxEnv
from arena.envs.apart import Apart
from arena.players import Defender, Response


@dataclass(frozen=True)
class Diary(Defender):
    """Refuses an image that the game, or the account, has asked before; its memory has no axis of games."""

    memory = "account"

    def start(self, shape, accounts, device):
        return {}

    def watch(self, x, rows, response):
        known = [
            any(torch.equal(image, old) for old in rows.memory.get((g, a), []))
            for image, g, a in zip(x, rows.game.tolist(), rows.account.tolist(), strict=True)
        ]
        return Response(response.scores, refused=torch.tensor(known))

    def remember(self, x, rows, response):
        for image, g, a in zip(x, rows.game.tolist(), rows.account.tolist(), strict=True):
            rows.memory.setdefault((g, a), []).append(image.clone())


@dataclass(frozen=True)
class Inside(Defender):
    """Keeps which games it saw, in the order it was asked."""

    memory = "service"

    def start(self, shape, accounts, device):
        return []

    def remember(self, x, rows, response):
        rows.memory.append(rows.game.tolist())


def test_memory_is_forgotten_when_a_new_game_begins(ground, defenders):
    for name in ("patience", "stubborn"):
        env = ground.vector(defender=defenders[name](2), budget=3, mode="SameStep")
        assert isinstance(env.setup.stack.defenders[0], Apart) == (name == "stubborn")
        obs, _ = env.reset()
        told = []
        for step in range(9):
            send = np.array([True, step > 0, True, step != 4])
            obs, _, terminated, _, info = env.step(obs["image"], send=send)
            last = [info["final_obs"][i] if terminated[i] else None for i in range(4)]
            told.append(
                [obs["refused"][i] if not terminated[i] else o["refused"] for i, o in enumerate(last)]
            )
        if name == "patience":
            expected = told
    assert told == expected and np.sum(told) >= 8


def test_a_memory_of_any_form(ground, defenders):
    inside = Inside()
    env = ground.vector(defender=[Diary(), inside], accounts=2, budget=6)
    assert [type(d) for d in env.setup.stack.defenders] == [Apart, Inside]
    assert env.setup.stack.stateful and not env.setup.stack.random
    obs, _ = env.reset()
    other = obs["image"] * 0.999
    first = np.array([0, 0, 1, 1])
    for image, account, refused in (
        (obs["image"], first, [0, 0, 0, 0]),
        (other, first, [0, 0, 0, 0]),
        (obs["image"], 1 - first, [0, 0, 0, 0]),
        (np.where(np.arange(4)[:, None, None, None] < 2, other, obs["image"] / 2), first, [1, 1, 0, 0]),
    ):
        seen, *_ = env.step({"image": image, "account": account})
        assert seen["refused"].tolist() == refused
    again, _ = env.reset(options={"reset_mask": np.array([False, True, False, False])})
    image = np.where(np.arange(4)[:, None, None, None] == 1, again["image"], other)
    seen, *_ = env.step({"image": image, "account": first})
    assert seen["refused"].tolist() == [1, 0, 1, 1]


def test_answers_are_those_of_all_games_at_once(ground, defenders):
    @dataclass(frozen=True)
    class Forgetful(defenders["noise"]):
        memory = "game"

        def start(self, shape, accounts, device):
            return torch.zeros(shape[0], device=device)

    class WithForget(Forgetful):
        def forget(self, memory, games):
            memory[games] = 0

    seen = []
    for defender in (Forgetful(2.0), WithForget(2.0)):
        env = ground.vector(6, defender=[defender, defenders["noise"](1.0)])
        obs, _ = env.reset()
        steps = [env.step(obs["image"], send=[1, 1, 0, 1, 1, 1])[0]["answer_scores"] for _ in range(3)]
        seen.append(np.stack(steps))
        assert env.setup.stack.random
    assert np.allclose(*seen, atol=1e-5) and (seen[0][0] != seen[0][1]).any()


def test_the_one_game_of_an_environment(ground):
    env = BlackBoxEnv(defender=Diary(), **ground.options())
    for _ in range(3):
        obs, _ = env.reset()
        told = [env.step(obs["image"])[0]["refused"] for _ in range(2)]
        assert told == [0, 1]


def test_the_detector_is_the_wrapped_one_s(ground):
    @dataclass(frozen=True)
    class Detects(Diary):
        def detector(self, x, classifier):
            return x.flatten(1).sum(1)

    x = torch.ones(2, 1, 8, 8)
    assert Apart(Detects()).has_detector() and Apart(Detects()).detector(x, None).tolist() == [64, 64]
    assert not Apart(Diary()).has_detector()
    with pytest.raises(NotImplementedError, match="Diary does not say how to forget a game"):
        Diary().forget({}, torch.tensor([0]))
