from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from agents.attackers.score.square import Square
from arena import draws
from arena.classifiers import Classifier
from arena.envs import BlackBoxVectorEnv, drive
from arena.game.blame import AttackerError
from arena.game.openings import Openings, draw_targets
from arena.game.referee import Referee
from arena.game.shard import play_games
from arena.game.stack import Stack
from arena.game.stack_oracle import StackOracle
from arena.players import Attacker, Needs
from arena.rules.moves import Consult, VolleyError
from arena.rules.threat import Threat


@dataclass(frozen=True)
class Scatter(Attacker):
    """Asks some random points of every open game at once, out of order, from several accounts."""

    rows: int = 3

    def play(self, games):
        yield from games.note("start", 1.0, games.open)
        while len(i := games.open):
            u = games.uniform((self.rows, *games.x0.shape[1:]), i)
            x = games.x0[i].unsqueeze(1) + games.threat.epsilon * (2 * u - 1)
            of = i.repeat(self.rows)
            x = games.project(x.transpose(0, 1).flatten(0, 1), of)
            order = torch.arange(len(of)).flip(0)
            account = torch.arange(self.rows).repeat_interleave(len(i)) % games.threat.accounts
            answers = yield from games.ask(x[order], of[order], account=account[order])
            wrong = games.wrong(answers) & answers.answered
            if games.threat.objective == "submit" and wrong.any():
                first = {int(g): k for k, g in reversed(list(enumerate(answers.game[wrong].tolist())))}
                at = torch.tensor(list(first))
                yield from games.submit(x[order][wrong][list(first.values())], at)


def match_tape(ground, threat, defenders, tape, attacker, seed=5):
    """The same games as a match of all images that are right, with the seeds of `arena.play`."""
    base = Classifier.of(ground.model, sample=ground.images[:1])
    key = torch.tensor(ground.right)
    label = ground.labels[key]
    deal = Openings(ground.images[key], label, key, draw_targets(threat, label, key, 10, seed))
    oracle = StackOracle(
        Stack(base, tuple(defenders)),
        seed=draws.derive(seed, "defender", 0),
        games=len(deal),
        accounts=threat.accounts,
    )
    referee = Referee(oracle, deal, threat, listener=tape)
    play_games(attacker, referee, referee.seat(seed=draws.derive(seed, "attacker", 0)))
    return tape


@pytest.mark.parametrize("arrays", ["numpy", "torch"])
@pytest.mark.parametrize(
    ("attacker", "threat", "stack"),
    [
        (Square(), {"objective": "first", "epsilon": 0.02, "budget": 15}, []),
        (Scatter(), {"objective": "first", "epsilon": 0.15}, ["noise"]),
        (Scatter(), {"objective": "submit", "epsilon": 0.4, "goal": "targeted"}, ["noise"]),
        (Scatter(), {"objective": "submit", "epsilon": 0.15, "feedback": "label"}, ["noise"]),
        (Scatter(), {"objective": "minimum", "norm": "l2", "epsilon": 1.0, "feedback": "topk:3"}, []),
        (Scatter(), {"objective": "first", "epsilon": 0.2, "accounts": 3, "budget": 11}, ["patience"]),
    ],
)
def test_a_match_and_the_environment_leave_the_same_transcript(
    ground, defenders, new_tape, attacker, threat, stack, arrays
):
    rules = {"budget": 8, **threat}
    defense = [defenders[name]() for name in stack]
    expected = match_tape(ground, Threat(**rules), defense, new_tape(), attacker).games_by_key
    heard = new_tape()
    env = BlackBoxVectorEnv(
        num_envs=10,
        autoreset_mode="Disabled",
        defender=defense,
        listener=heard,
        arrays=arrays,
        **ground.options(**rules),
    )
    returns = np.concatenate([drive(attacker, env) for _ in range(3)])
    env.close()
    got = heard.games_by_key
    assert sorted(got) == sorted(expected) == ground.right
    for key, queries in expected.items():
        assert [q[:-1] for q in got[key]] == [q[:-1] for q in queries], key
        assert np.allclose([q[-1] for q in got[key]], [q[-1] for q in queries], atol=1e-5)
    answered = np.concatenate([rows.answered for rows in heard.endings])
    assert returns.shape == (30,) and 0 < answered.sum() < 30
    assert (returns.sum() > 0) == answered.any()
    if threat["objective"] == "first":
        assert returns.sum() == answered.sum()


def test_the_match_s_endings_are_the_environment_s(ground, new_tape):
    rules = {"budget": 8, "epsilon": 0.15, "objective": "submit"}
    of_match, of_env = new_tape(), new_tape()
    match_tape(ground, Threat(**rules), [], of_match, Scatter())
    env = BlackBoxVectorEnv(
        num_envs=30, autoreset_mode="Disabled", listener=of_env, **ground.options(**rules)
    )
    returns = drive(Scatter, env)  # a class does, too
    (whole,) = of_match.endings
    by_key = {}
    for rows in of_env.endings:
        for i, key in enumerate(rows.key.tolist()):
            by_key[key] = (rows.reason[i], rows.queries[i], rows.vote[i], rows.base[i], rows.hit_at[i])
    for i, key in enumerate(whole.key.tolist()):
        assert by_key[key] == (
            whole.reason[i],
            whole.queries[i],
            whole.vote[i],
            whole.base[i],
            whole.hit_at[i],
        )
    assert set(returns.tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attacker_asks_images_whatever_the_environment_s_actions_are(ground, norm):
    rules = {"budget": 8, "epsilon": 0.15 if norm == "linf" else 0.8, "norm": norm}
    returns = []
    for action in ("image", "perturbation"):
        options = ground.options(**rules) | {"action": action}
        env = BlackBoxVectorEnv(num_envs=30, autoreset_mode="Disabled", **options)
        returns.append(drive(Scatter(), env).tolist())
    assert returns[0] == returns[1] and 0 < sum(returns[0]) < 30


def test_it_needs_autoreset_disabled(ground):
    env = BlackBoxVectorEnv(num_envs=2, **ground.options())
    with pytest.raises(ValueError, match="drive needs autoreset_mode DISABLED; found NEXT_STEP"):
        drive(Scatter(), env)


@dataclass(frozen=True)
class Insider(Attacker):
    """Consults, resigns half of its games, sends something malformed, and goes on."""

    needs = Needs(feedback="scores")

    def play(self, games):
        with pytest.raises(VolleyError, match="no insider's evaluations are served here"):
            yield Consult(games.x0, games.open)
        with pytest.raises(VolleyError, match=r"images must lie in \[0,1\]"):
            yield from games.ask(games.x0 + 1)
        late = torch.stack([games.x0[0], games.x0[0] + 1])
        with pytest.raises(VolleyError, match=r"images must lie in \[0,1\]"):
            yield from games.ask(late, torch.tensor([0, 0]))
        yield from games.resign(games.open[::2])
        assert games.open.tolist() == [1, 3]
        answers = yield from games.ask(games.x0[[0, 1]], torch.tensor([0, 1]))
        assert answers.answered.tolist() == [False, True] and answers.scores[0].isnan().all()
        assert games.left.tolist() == [6, 5, 6, 6]
        raise RuntimeError("enough")


def test_what_an_environment_does_not_serve(ground):
    env = BlackBoxVectorEnv(num_envs=4, autoreset_mode="Disabled", **ground.options(feedback="label"))
    with pytest.raises(ValueError, match="Insider cannot play this environment's threat: it needs scores"):
        drive(Insider(), env)
    env = BlackBoxVectorEnv(num_envs=4, autoreset_mode="Disabled", **ground.options())
    with pytest.raises(AttackerError, match="enough"):
        drive(Insider(), env)


@dataclass(frozen=True)
class Refused(Attacker):
    """Asks until it is refused."""

    def play(self, games):
        for turn in range(1, 4):
            answers = yield from games.ask(games.x0)
            assert answers.answered.tolist() == [turn < 3] * 4 == (~answers.refused).tolist()
            assert (answers.label == (games.label if turn < 3 else -1)).all()
            assert answers.scores.isnan().any() == (turn == 3)


def test_refusals_are_told(ground, defenders):
    defense = defenders["patience"](2)
    env = BlackBoxVectorEnv(num_envs=4, autoreset_mode="Disabled", defender=defense, **ground.options())
    assert drive(Refused(), env).tolist() == [0] * 4


def test_what_a_seat_holds_is_the_attackers_own(ground):
    """Labels, images and the threat that it changes change neither the games nor the environment."""

    @dataclass(frozen=True)
    class Writes(Attacker):
        def play(self, games):
            games.label.add_(1).remainder_(10)
            games.x0.fill_(0.5)
            games.key.fill_(3)
            games.threat.__dict__["budget"] = 60
            x = torch.rand(len(games), *games.x0.shape[1:])
            while len(i := games.open):
                yield from games.ask(x[i], i)

    threat = Threat(norm="linf", epsilon=0.1, budget=3)
    for arrays in ("torch", "numpy"):
        data = {"classifier": ground.model, "images": ground.images, "labels": ground.labels}
        env = BlackBoxVectorEnv(
            num_envs=4, threat=threat, autoreset_mode="Disabled", arrays=arrays, **data, device="cpu"
        )
        state = torch.get_rng_state()
        drive(Writes(), env, seed=0)
        board = env._rolling.board
        assert env.threat.budget == 3 and board.ledger.queries.tolist() == [3] * 4
        assert torch.equal(board.label, ground.labels[board.key])
        assert torch.equal(torch.get_rng_state(), state)
