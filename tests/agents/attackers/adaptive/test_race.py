from dataclasses import dataclass, field

import pytest
import torch

from agents.attackers.adaptive.eot import EOT
from agents.attackers.adaptive.race import Race
from agents.attackers.score.random_search import RandomSearch
from agents.attackers.score.square import Square
from arena.players import Attacker, Needs
from arena.rules.threat import Threat

SHAPE = (1, 4, 4)


@dataclass(frozen=True)
class Asks(Attacker):
    """Asks for grey images by a plan (games and purpose of each volley) and keeps losses and answers."""

    plan: tuple[tuple[tuple[int, ...], str], ...]
    losses: list = field(default_factory=list)
    heard: list = field(default_factory=list)
    needs = Needs(feedback="scores")

    def play(self, games):
        for volley, purpose in self.plan:
            i = torch.tensor(volley)
            answers = yield from games.ask(torch.full((len(i), *SHAPE), 0.5), i, purpose)
            self.losses.append(games.loss(answers).tolist())
            self.heard.append(answers)


@pytest.fixture
def table(referee, images):
    """table(margins [G][T], ...): a referee of games of class 0 whose answers have these margins in order."""

    def make(margins, budget=100, objective="submit", **more):
        told = torch.tensor(margins)

        def model(x, game, turn):
            return torch.stack([told[game, turn - 1], torch.zeros(len(x))], dim=1)

        label = torch.zeros(len(margins), dtype=torch.int64)
        threat = Threat(epsilon=1.0, budget=budget, objective=objective)
        return referee(model, images(len(margins), SHAPE), label, threat, **more)

    return make


def test_a_row_is_repeated_as_long_as_its_mean_is_ahead(table):
    """Start 3 times: mean 10. Then 12: behind. Then 6, 16: mean 11, behind. Then 7, 8, 9: mean 8."""
    asks = Asks((((0,), "start"), ((0,), "a"), ((0,), "b"), ((0,), "c")))
    played = table([[9.0, 10.0, 11.0, 12.0, 6.0, 16.0, 7.0, 8.0, 9.0]]).play(Race(asks, repeats=3))
    assert played.purposes(0) == ["start"] * 3 + ["a"] + ["b"] * 2 + ["c"] * 3
    assert asks.losses == [[10.0], [12.0], [11.0], [8.0]]
    assert asks.heard[3].scores.tolist() == [[8.0, 0.0]]


def test_games_race_side_by_side(table):
    asks = Asks((((0, 1), "start"), ((0, 1), "next")))
    played = table([[9.0, 9.0, 8.0, 7.0], [5.0, 5.0, 6.0, 0.0]]).play(Race(asks, repeats=2))
    assert played.volleys == [2, 2, 2, 1]
    assert asks.losses == [[9.0, 5.0], [7.5, 6.0]]


def test_a_refresh_sets_the_bar_anew(table):
    """The bar is 4; a refresh finds 8; then 6, 7 are ahead of it."""
    asks = Asks((((0,), "start"), ((0,), "refresh"), ((0,), "next"), ((0,), "next")))
    played = table([[4.0, 4.0, 7.0, 9.0, 6.0, 7.0, 9.0]]).play(Race(asks, repeats=2))
    assert played.purposes(0) == ["start"] * 2 + ["refresh"] * 2 + ["next"] * 3
    assert asks.losses == [[4.0], [8.0], [6.5], [9.0]]


def test_repeats_of_what_is_stood_by_are_asked_once(table):
    asks = Asks((((0, 0), "repeat"),))
    played = table([[1.0, 2.0]]).play(Race(asks, repeats=5))
    assert len(played.asked[0]) == 2 and asks.losses == [[1.0, 2.0]]


def test_refused_rows_are_not_repeated(table):
    asks = Asks((((0,), "a"), ((0,), "b")))
    played = table([[5.0, 5.0, 5.0, 5.0]], refuse=lambda game, turn: turn == 1).play(Race(asks, repeats=3))
    assert played.purposes(0) == ["a", "b", "b", "b"]
    assert [a.refused.tolist() for a in asks.heard] == [[True], [False]]
    assert asks.losses == [[torch.inf], [5.0]]


def test_a_refused_repeat_is_left_out(table):
    asks = Asks((((0,), "a"),))
    table([[5.0, 0.0, 7.0]], refuse=lambda game, turn: turn == 2).play(Race(asks, repeats=3))
    assert asks.losses == [[6.0]] and asks.heard[0].answered.tolist() == [True]


def test_under_first_a_hit_among_the_repeats_ends_the_game(table):
    asks = Asks((((0,), "a"),))
    played = table([[5.0, -1.0, 5.0]], objective="first").play(Race(asks, repeats=3))
    assert played.hits == [[2]] and len(played.asked[0]) == 2


def test_of_one_repeat_it_is_the_inner_attack(referee, linear, images):
    model, x0 = linear(SHAPE), images(3, SHAPE)
    label = torch.zeros(3, dtype=torch.int64)
    far = lambda x, game, turn: model(x, game, turn) + torch.tensor([50.0, 0])  # noqa: E731
    threat = Threat(epsilon=0.2, budget=30)
    race, eot = (referee(far, x0, label, threat).play(a(Square(), repeats=1)) for a in (Race, EOT))
    for game in range(3):
        assert torch.equal(race.queries(game), eot.queries(game))


def test_without_noise_only_what_is_accepted_costs_more(referee, linear, images):
    model, x0 = linear(SHAPE), images(3, SHAPE)
    label = torch.zeros(3, dtype=torch.int64)
    far = lambda x, game, turn: model(x, game, turn) + torch.tensor([50.0, 0])  # noqa: E731
    table = referee(far, x0, label, Threat(epsilon=0.2, budget=60)).play(Race(RandomSearch(), repeats=3))
    for game in range(3):
        margins, best, t = table.margins(game), float("inf"), 0
        while t < 57:
            times = 3 if margins[t] < best else 1
            assert margins[t : t + times] == [margins[t]] * times
            best, t = min(best, margins[t]), t + times


NORMAL = torch.randn(1 << 16, generator=torch.Generator().manual_seed(0))


def test_under_noise_it_descends_further_than_its_twin_and_than_eot(referee, images):
    """A linear margin with noise of about the size of a step; 300 queries; the mean true margin left."""
    shape, games = (1, 8, 8), 10
    w = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    x0 = images(games, shape, low=0.45, high=0.55)

    def true(x):
        return 60 + (x - 0.5).mul(w).flatten(1).sum(dim=1)

    def noisy(x, game, turn):
        return torch.stack([true(x) + 0.5 * NORMAL[(game * 1009 + turn) % len(NORMAL)], 0.0 * turn], dim=1)

    def left(attacker):
        threat = Threat(epsilon=0.4, budget=300)
        table = referee(noisy, x0, torch.zeros(games, dtype=torch.int64), threat, facts=False).play(attacker)
        return float(torch.stack([true(table.queries(game)[-20:]).median() for game in range(games)]).mean())

    search = RandomSearch(mu=0.05)
    mine, plain, mean = left(Race(search, repeats=5)), left(search), left(EOT(search, repeats=5))
    assert mine < plain - 0.5 and mine < mean - 0.5


def test_parameters():
    assert Race(of=Square()).twin == Square()
    assert Race(of=Square(rescale=True)).needs == Square(rescale=True).needs
    with pytest.raises(ValueError, match="repeats must be at least 1; found 0"):
        Race(of=Square(), repeats=0)
