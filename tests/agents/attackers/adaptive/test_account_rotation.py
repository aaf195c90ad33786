import sqlite3
from dataclasses import dataclass

import pytest
import torch

import arena
from agents.attackers.adaptive.account_rotation import AccountRotation
from agents.attackers.adaptive.eot import EOT
from agents.attackers.decision.hop_skip_jump import HopSkipJump
from agents.attackers.score.square import Square
from arena.players import Attacker
from arena.rules.threat import Threat

SHAPE = (1, 4, 4)


class Bright(torch.nn.Module):
    """Class 1 where the mean is above .9; what is asked here is class 0."""

    def forward(self, x):
        f = x.flatten(1).mean(dim=1) - 0.9
        return torch.stack([-f, f], dim=1)


@dataclass(frozen=True)
class Drums(Attacker):
    """Asks images of a grey step apart, `rows` of a game in a volley."""

    rows: int = 1

    def play(self, games):
        step = 0
        while len(i := games.open):
            grey = 0.001 * (step + torch.arange(self.rows)).repeat(len(i))
            step += self.rows
            yield from games.ask(
                torch.ones(len(grey), *SHAPE) * grey.view(-1, 1, 1, 1), i.repeat_interleave(self.rows)
            )


@pytest.fixture
def accounts_of(queries):
    """accounts_of(attacker, defender, accounts, budget): the accounts of the first game's queries, and the
    result."""

    def play(attacker, defender, accounts, budget=20, **more):
        threat = {"epsilon": 0.1, "budget": budget, "accounts": accounts, "objective": "submit"}
        images = torch.zeros(2, *SHAPE)
        result = arena.play(
            attacker,
            defender,
            classifier=Bright(),
            images=images,
            labels=torch.zeros(2, dtype=torch.int64),
            threat=threat,
            keep_rows=True,
            **more,
        )
        rows = queries(result)
        return rows.account[rows.game == 0].tolist(), result

    return play


@pytest.mark.parametrize("rows", [1, 2, 5, 7])
def test_every_n_queries_the_next_account_takes_over(accounts_of, rows):
    got, _ = accounts_of(AccountRotation(Drums(rows), every=3), "none", 4)
    assert got == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [0] * 3 + [1] * 3 + [2] * 2


def test_a_refused_account_is_left(accounts_of, near):
    """Within .4 of one earlier image: all after an account's first are refused."""
    got, _ = accounts_of(AccountRotation(Drums(4), policy="refused"), near(), 3, budget=8)
    assert got == [0, 0, 1, 1, 2, 2, 0, 1]


def test_a_closed_account_is_left_at_once_and_for_good(accounts_of, near):
    """An account is closed at its third query, within a volley too; with the last one the game ends."""
    for policy in ("banned", "every"):
        by = AccountRotation(Drums(5), policy=policy)
        got, result = accounts_of(by, near(neighbours=2, ban=True), 4)
        assert got == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
        assert result.reason == ["banned", "banned"]


def test_left_before_it_is_flagged_no_account_ever_is(accounts_of, near, queries):
    """A detector by the 5 nearest: its sixth query flags an account, after 5 it sees nothing."""
    _, seen = accounts_of(AccountRotation(Drums(3), every=6), near(neighbours=5), 4)
    _, hidden = accounts_of(AccountRotation(Drums(3), every=5), near(neighbours=5), 4)
    assert queries(seen).refused.sum() == 6 and queries(hidden).refused.sum() == 0


def test_the_log_tells_how_many_accounts_were_burned(accounts_of, near, tmp_path):
    by, path = AccountRotation(Drums(5), policy="banned"), tmp_path / "log.db"
    accounts_of(by, near(neighbours=2, ban=True), 5, budget=8, log=path)
    with sqlite3.connect(path) as log:
        notes = log.execute("SELECT key, number FROM notes ORDER BY game_id, place").fetchall()
    assert notes == [("accounts used", 3.0), ("accounts burned", 2.0)] * 2


def test_with_one_account_it_is_the_attacker_inside(referee, linear, images):
    model, x0, label = linear(SHAPE), images(3, SHAPE), torch.zeros(3, dtype=torch.int64)
    threat = Threat(norm="l2", epsilon=0.5, budget=60, objective="submit")
    for of in (Square(), HopSkipJump(), EOT(of=Square(), repeats=3)):
        one, other = (referee(model, x0, label, threat).play(a) for a in (of, AccountRotation(of)))
        assert [len(asked) for asked in one.asked] == [len(asked) for asked in other.asked]
        for game in range(3):
            assert torch.equal(one.queries(game), other.queries(game))


def test_with_several_the_attacker_inside_hears_the_same(queries):
    """Where nobody watches accounts: the same games, image by image."""
    threat = {"norm": "l2", "epsilon": 2.0, "budget": 80, "accounts": 3, "objective": "submit"}
    x0 = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0)) * 0.2
    results = [
        arena.play(
            attacker,
            classifier=Bright(),
            images=x0,
            labels=torch.zeros(3, dtype=torch.int64),
            threat=threat,
        )
        for attacker in (HopSkipJump(), AccountRotation(HopSkipJump(), every=7))
    ]
    assert results[0].reason == results[1].reason
    assert results[0].queries.tolist() == results[1].queries.tolist()
    assert (results[0].images == results[1].images).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"every": 0}, r"^every must be at least 1; found 0$"),
        ({"policy": "never"}, r'^policy must be one of "every", "refused", "banned"; found "never"$'),
    ],
)
def test_a_bad_parameter_is_told(given, said):
    with pytest.raises(ValueError, match=said):
        AccountRotation(Square(), **given)
