import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.attackers.adaptive.bi_square import BiSquare
from arena.players.seat import Games
from arena.rules.moves import Answers
from arena.rules.threat import Threat


def seat_for(games):
    none, no = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool)
    is_open = torch.ones(games, dtype=torch.bool)
    state = Answers(
        none, none, None, no, no, torch.arange(games), is_open, torch.arange(games), is_open[:, None]
    )
    threat = Threat(epsilon=0.1, budget=1)
    return Games(
        torch.zeros(games, 1, 2, 2), torch.zeros(games, dtype=torch.int64), threat, classes=2, state=state
    )


def by_hand(losses, best, theta):
    """One game in plain Python: which of the losses are accepted, starting from `best`."""
    accepted, down = [], True
    for new in losses:
        if new == math.inf:
            accepted.append(False)
            continue
        delta = new - best
        rises_or_drops = delta > 0 or delta < -theta
        take = delta < 0 if down else rises_or_drops
        if delta > theta:
            down = False
        if take:
            best = new
        accepted.append(take)
    return accepted


def by_rule(attacker, losses, best):
    """The same by the attacker's rule, all games [G] side by side; losses [G][T]."""
    accept = attacker.acceptance(seat_for(len(losses)))
    best, every = torch.tensor(best), torch.arange(len(losses))
    accepted = []
    for new in torch.tensor(losses).unbind(dim=1):
        taken = accept(new, best, every)
        best = torch.where(taken, new, best)
        accepted.append(taken)
    return torch.stack(accepted, dim=1).tolist()


@pytest.mark.parametrize(
    ("best", "losses", "accepted"),
    [
        (2.0, [1.0, 1.5, 0.5], [True, False, True]),  # descends
        (2.0, [5.0, 1.0], [False, True]),  # a rise by theta is not abnormal
        (2.0, [5.5, 1.0, 3.0, 2.5], [False, False, True, False]),  # turns, then climbs
        (2.0, [5.5, -1.5, -1.0, 9.0, 8.0, 5.5], [False, True, True, True, False, True]),
        (math.inf, [2.0, 6.0, 3.0], [True, False, True]),  # nothing known at first
        (2.0, [math.inf, 1.0, 3.0], [False, True, False]),  # no answer is no abnormal rise
    ],
)
def test_descends_until_an_abnormal_rise_then_climbs_for_good(best, losses, accepted):
    assert by_rule(BiSquare(), [losses], [best]) == [accepted]
    assert by_hand(losses, best, 3.0) == accepted


dyadic = st.one_of(st.integers(-40, 40).map(lambda k: k / 4), st.just(math.inf))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(dyadic, min_size=12, max_size=12), min_size=1, max_size=5),
    st.sampled_from([0.0, 1.5, 3.0]),
)
def test_every_game_follows_the_rule_by_hand(losses, theta):
    best = [game[0] for game in losses]
    rest = [game[1:] for game in losses]
    expected = [by_hand(game, b, theta) for game, b in zip(rest, best, strict=True)]
    assert by_rule(BiSquare(theta=theta), rest, best) == expected


def test_games_turn_one_by_one_also_when_others_have_closed():
    accept = BiSquare().acceptance(seat_for(3))
    best = torch.full((3,), 2.0)
    assert accept(torch.tensor([9.0, 9.0, 1.0]), best, torch.arange(3)).tolist() == [False, False, True]
    still = torch.tensor([1, 2])
    assert accept(torch.tensor([3.0, 3.0]), best[still], still).tolist() == [True, False]


def test_it_keeps_no_state_between_plays():
    attacker = BiSquare()
    first, second = (attacker.acceptance(seat_for(1)) for _ in range(2))
    one = torch.tensor([0])
    first(torch.tensor([9.0]), torch.tensor([2.0]), one)
    assert second(torch.tensor([1.0]), torch.tensor([2.0]), one).tolist() == [True]


def test_on_an_honest_margin_it_is_square_until_noise_turns_it(referee, images):
    """Margins 10, then 14 (abnormal), then 12: op would take the rise at once, bi only the one after."""
    x0, label = images(1, (1, 8, 8)), torch.zeros(1, dtype=torch.int64)

    def scripted(x, game, turn):
        margin = torch.tensor([0.0, 10.0, 14.0, 12.0, 11.0])[turn.clamp(max=4)]
        return torch.stack([margin, torch.zeros(len(x))], dim=1)

    table = referee(scripted, x0, label, Threat(epsilon=0.1, budget=5)).play(BiSquare(refresh_every=3))
    x = table.queries(0)
    assert table.purposes(0) == ["start", "search", "search", "search", "refresh"]
    assert torch.equal(x[4], x[2])  # 12 was taken, 14 and 11 were not
