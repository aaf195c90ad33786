import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.attackers.adaptive.switch_dir import SwitchDir


def by_hand(losses, best, patience):
    """One game in plain Python: which of the losses are taken, starting from `best`."""
    taken, direction, streak = [], 1, 0
    for new in losses:
        if new == math.inf:
            taken.append(False)
            continue
        if direction * (new - best) < 0:
            streak = 0
        else:
            streak += 1
        if streak > patience:
            direction, streak = -direction, 0
        take = direction * (new - best) < 0
        if take:
            best = new
        taken.append(take)
    return taken


@pytest.mark.parametrize(
    ("best", "losses", "taken"),
    [
        (2.0, [1.0, 0.5, 0.0], [True, True, True]),  # descends
        (2.0, [3.0, 4.0, 5.0], [False, False, True]),  # the third failure turns it round, and is taken
        (2.0, [3.0, 4.0, 2.0, 3.0], [False, False, False, True]),  # it turns, though that one is no rise
        (2.0, [3.0, 1.0, 3.0, 4.0, 0.5], [False, True, False, False, True]),  # an improvement ends a streak
        (
            2.0,
            [3.0, 4.0, 5.0, 4.0, 4.0, 4.0, 3.0],
            [False, False, True, False, False, True, True],
        ),  # and back
        (2.0, [3.0, math.inf, 3.0, 1.0], [False, False, False, True]),  # no answer is no failure
        (math.inf, [2.0, 3.0], [True, False]),  # nothing known at first
    ],
)
def test_it_turns_round_after_more_failures_than_patience(accepted, best, losses, taken):
    assert accepted(SwitchDir(patience=2), [losses], [best]) == [taken]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.lists(st.one_of(st.integers(-8, 8).map(float), st.just(math.inf)), min_size=15, max_size=15),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 4),
)
def test_every_game_follows_the_rule_by_hand(accepted, losses, patience):
    best, rest = [float(len(game)) for game in losses], losses
    expected = [by_hand(game, b, patience) for game, b in zip(rest, best, strict=True)]
    assert accepted(SwitchDir(patience=patience), rest, best) == expected


def test_parameters():
    assert SwitchDir().patience == 10 and SwitchDir().loss == "margin"
    with pytest.raises(ValueError, match="patience must be at least 1; found 0"):
        SwitchDir(patience=0)
    with pytest.raises(ValueError, match="p must be"):
        SwitchDir(p=0.0)
