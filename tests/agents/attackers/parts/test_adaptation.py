import pytest
import torch

from agents.attackers.parts.adaptation import ADAPT, Adaptation
from arena.rules.threat import Threat

SHAPE = (1, 4, 4)


@pytest.fixture
def adapted(referee, images, procedure):
    """adapted(by, low, high, passes, ...): what `by` finds in 3 games, and the table. An image is refused
    unless `passes(size, probe)` for its size, sent in its first pixel, and the probe's number."""

    def play(by, low, high, passes, budget=1000, **more):
        asked = {}

        def model(x, game, turn):
            for row, g, t in zip(x, game.tolist(), turn.tolist(), strict=True):
                asked[g, t] = 100 * float(row[0, 0, 0])
            return torch.zeros(len(x), 2) + torch.tensor([1.0, 0.0])

        def refuse(game, turn):
            return not passes(asked[game, turn], (turn - 1) % by.probes)

        def steps(games):
            i = games.open

            def sized(size, rows):
                x = torch.zeros(len(rows), by.probes, *SHAPE)
                x[:, :, 0, 0, 0] = (size / 100).float().unsqueeze(1)
                return x

            return (yield from by.smallest(games, i, low, high, sized))

        threat = Threat(epsilon=1.0, budget=budget)
        table = referee(model, torch.zeros(3, *SHAPE), torch.zeros(3).long(), threat, refuse=refuse, **more)
        run = procedure(steps)
        table.play(run)
        return run.result, table

    return play


def test_it_finds_the_smallest_size_that_passes(adapted):
    found, table = adapted(Adaptation(0.0, 12, 3), 1.0, 9.0, lambda size, probe: size > 3.7)
    assert torch.allclose(found, torch.full((3,), 3.7).double(), atol=8 / 2**12 + 1e-5)
    assert (found > 3.7).all()
    assert table.purposes(0) == [ADAPT] * 36


@pytest.mark.parametrize(("rate", "size"), [(0.2, 8.0), (0.25, 2.0), (0.9, 2.0)])
def test_a_share_of_refusals_may_be_let_pass(adapted, rate, size):
    """From 2 on one of four is refused, from 8 on none, below 2 all."""
    found, _ = adapted(
        Adaptation(rate, 10, 4), 1.0, 9.0, lambda size, probe: size > 8 or (size > 2 and probe > 0)
    )
    assert torch.allclose(found, torch.full((3,), size).double(), atol=0.02)


def test_whole_numbers_are_found_exactly(adapted):
    for least in (2, 37, 100):
        by = Adaptation(0.0, 10, 1, whole=True)
        found, _ = adapted(by, 1, 100, lambda size, probe, least=least: size > least - 0.5)
        assert found.tolist() == [least] * 3


def test_where_nothing_passes_it_is_the_largest_and_where_all_does_the_least(adapted):
    nothing, _ = adapted(Adaptation(0.0, 6, 2), 1.0, 2.0, lambda size, probe: False)
    everything, _ = adapted(Adaptation(0.0, 6, 2), 1.0, 2.0, lambda size, probe: True)
    assert nothing.tolist() == [2.0] * 3 and everything.tolist() == [1 + 2.0**-6] * 3


def test_a_bracket_of_one_size_costs_nothing(adapted):
    found, table = adapted(Adaptation(0.0, 6, 2), 0.1, 0.1, lambda size, probe: False)
    assert found.tolist() == [0.1] * 3 and table.asked == [[], [], []]


def test_what_passed_last_stays_where_the_budget_ends(adapted):
    found, _ = adapted(Adaptation(0.0, 9, 4), 1.0, 5.0, lambda size, probe: True, budget=8)
    assert found.tolist() == [2.0] * 3


def test_the_length_of_volleys_changes_nothing(adapted):
    by, passes = Adaptation(0.0, 8, 3), lambda size, probe: size > 3.7
    assert torch.equal(adapted(by, 1.0, 9.0, passes)[0], adapted(by, 1.0, 9.0, passes, max_rows=4)[0])
