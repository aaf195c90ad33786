import pytest
import torch

from agents.attackers.adaptive.op_square import OpSquare
from agents.attackers.adaptive.slope_square import Course, SlopeSquare
from agents.attackers.adaptive.switch_dir import SwitchDir
from agents.attackers.score.square import Square
from agents.defenders.aaa.linear import AAALinear
from agents.defenders.aaa.sine import AAASine
from arena.rules.threat import Threat

SHAPE = (1, 8, 8)
PLANTED = {"undefended": lambda m: m, "linear": AAALinear().target, "sine": AAASine().target}


def median(turns):
    return turns[len(turns) // 2] if turns else 10**9


def test_it_breaks_what_is_shown_reversed_as_fast_as_square_breaks_what_is_not(folded):
    """The targets of AAA, exactly, on a linear margin of 14: all of 20 games."""
    honest = folded(PLANTED["undefended"]).won(Square(), 150)
    assert len(honest) == 20
    reversed_ = folded(PLANTED["linear"])
    assert reversed_.won(Square(), 150) == []
    mine = reversed_.won(SlopeSquare(), 150)
    assert len(mine) == 20 and median(mine) < 1.5 * median(honest)
    undefended = folded(PLANTED["undefended"]).won(SlopeSquare(), 150)
    assert len(undefended) == 20 and median(undefended) < 1.3 * median(honest)
    assert folded(PLANTED["undefended"]).won(OpSquare(), 150) == []


def test_it_passes_the_folds_of_the_sine(folded):
    waves = folded(PLANTED["sine"])
    assert waves.won(Square(), 300) == []
    mine, others = waves.won(SlopeSquare(), 300), waves.won(SwitchDir(), 300)
    assert len(mine) >= 13 and len(others) <= 8


def scripted(referee, images, losses, budget, attacker, **more):
    """A game whose answers' margins are `losses` in order."""
    table = torch.tensor([*losses, *[50.0] * 500])

    def model(x, game, turn):
        return torch.stack([table[turn - 1], torch.zeros(len(x))], dim=1)

    label = torch.zeros(1, dtype=torch.int64)
    threat = Threat(epsilon=0.1, budget=budget, objective=more.pop("objective", "first"))
    return referee(model, images(1, SHAPE), label, threat, **more).play(attacker)


@pytest.mark.parametrize("falls_back", [False, True])
def test_the_first_slope_decides_the_way(referee, images, falls_back):
    """Start 10, a step back from it, candidates at 11 and 9, and the next candidate's origin tells."""
    slope = 9.5 if falls_back else 10.5
    table = scripted(referee, images, [10.0, slope, 11.0, 9.0, 10.0], 5, SlopeSquare())
    assert table.purposes(0) == ["start", "slope", "search", "search", "search"]
    _, _, up, down, last = table.queries(0)
    origin = up if falls_back else down
    other = down if falls_back else up

    def changed(a, b):
        return int((a != b).sum())

    assert changed(last, origin) < changed(last, other)


def test_a_step_back_goes_towards_x0_by_its_share(referee, images):
    table = scripted(referee, images, [10.0, 11.0], 2, SlopeSquare(step_back=0.25))
    start, back = table.queries(0)
    x0 = table.x0[0]
    assert torch.allclose(back - x0, 0.75 * (start - x0), atol=1e-6)


def test_where_the_service_rounds_the_step_back_is_dithered(referee, images):
    x0 = (images(1, (1, 32, 32)) * 255).round() / 255
    threat = Threat(epsilon=8 / 255, budget=2, quantisation="floor")
    model = lambda x, game, turn: torch.stack([10.0 * turn, 0.0 * turn], dim=1)  # noqa: E731
    table = referee(model, x0, torch.zeros(1, dtype=torch.int64), threat).play(SlopeSquare(step_back=0.05))
    start, back = (table.queries(0) * 255).unbind(0)
    assert torch.allclose(back, back.round(), atol=2e-4)  # whole levels
    clean = x0[0] * 255
    inside = (start - clean).abs() > 7.5
    moved = ((start - back) / (start - clean))[inside]
    assert moved.mean() == pytest.approx(0.05, abs=0.02)
    assert set((moved * 8).round().tolist()) == {0.0, 1.0}


def test_after_patience_it_asks_for_slopes_and_goes_beyond_a_fold(referee, images):
    """Descending from 10; two candidates rise; the slope at the incumbent is as before; of two more that
    rise, the second lies beyond the fold; from there a rise is progress."""
    losses = [10.0, 11.0, 12.0, 12.0, 11.0, 11.5, 12.0, 11.0, 10.5, 11.5, 11.2]
    table = scripted(referee, images, losses, 11, SlopeSquare(patience=2, trials=5))
    expected = ["start", "slope", "search", "search", "slope", "search", "slope", "search", "slope"]
    assert table.purposes(0) == [*expected, "search", "search"]
    queries = table.queries(0)

    def near(a, b):
        return int((queries[a] != queries[b]).sum()) <= 2 * 4  # two squares of side 2

    assert near(9, 7) and near(10, 9)  # 11 was taken, then 11.5


def test_trials_end(referee, images):
    """Two of patience, the incumbent's slope, one trial with its slope, and patience again."""
    table = scripted(
        referee,
        images,
        [10.0, 12.0] + [11.0, 11.0, 12.0, 11.0, 12.0] * 3,
        14,
        SlopeSquare(patience=2, trials=1),
    )
    round_ = ["search", "search", "slope", "search", "slope"]
    assert table.purposes(0) == ["start", "slope", *round_, *round_, "search", "search"]


@pytest.mark.parametrize(
    ("losses", "asked"),
    [
        ([10.0, 9.0, 8.0, -1.0], 4),  # climbing: -1 is a drop by 11 from 10, which the rule takes
        ([4.0, 3.0, 5.0, -0.5], 4),  # a drop by 5.5 is none that it takes
        ([4.0, -1.0], 2),  # the step back
    ],
)
def test_a_hit_is_handed_in_whatever_the_rule_says_of_it(referee, images, losses, asked):
    table = scripted(referee, images, losses, 30, SlopeSquare(), objective="submit")
    assert table.hits == [[asked]] and len(table.asked[0]) == asked
    assert torch.equal(table.submitted[0], table.queries(0)[-1])


def test_where_answers_are_no_facts_the_rule_decides(referee, images):
    table = scripted(
        referee, images, [4.0, 3.0, 5.0, -0.5], 9, SlopeSquare(), objective="submit", facts=False
    )
    assert not table.submitted and "repeat" not in table.purposes(0)


def course(**more):
    return Course(torch.full((3,), 10.0), **{"theta": 6.0, "patience": 2, "trials": 2} | more)


def test_the_rule_of_acceptance():
    c, i = course(), torch.arange(3)
    c.turn(i, torch.tensor([1.0, -1.0, 0.0]))
    assert c.down.tolist() == [True, False, True]
    no = torch.zeros(3, dtype=torch.bool)
    for delta, expected in [(-1.0, [1, 0, 1]), (1.0, [0, 1, 0]), (7.0, [0, 0, 0]), (-7.0, [1, 1, 1])]:
        accepted, testing = c.judge(torch.full((3,), delta), no, i)
        assert accepted.int().tolist() == expected and not testing.any()
    c.streak[:] = 2
    accepted, testing = c.judge(torch.tensor([2.0, -2.0, 7.0]), no, i)
    assert not accepted.any() and testing.tolist() == [True, True, False]  # 7 is no small change
    assert c.turned(i, torch.tensor([-1.0, -1.0, 0.0])).tolist() == [True, False, False]
    assert c.down.tolist() == [False, False, True]


def test_a_loss_above_the_lowest_by_more_than_theta_reverses_the_sense():
    c, i = course(), torch.arange(3)
    c.turn(i, torch.tensor([-1.0, -1.0, 1.0]))
    c.count(
        i, torch.tensor([True, True, True]), torch.zeros(3, dtype=torch.bool), torch.tensor([15.0, 17.0, 9.0])
    )
    first = torch.full((3,), 10.0)
    assert c.reverse(i, torch.tensor([15.0, 17.0, 9.0]), first).tolist() == [1]
    assert c.sense.tolist() == [1, -1, 1] and c.down.tolist() == [False, True, True]
    c.turn(torch.tensor([1]), torch.tensor([-1.0]))
    assert c.down.tolist() == [False, True, True]  # where a step back lowers it, the loss is shown as it is


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("rounds", ["none", "floor"])
def test_queries_stay_in_ball_and_box(whole_games, norm, rounds):
    threat = Threat(norm=norm, epsilon=0.5, budget=40, objective="submit", quantisation=rounds)
    for x, x0 in whole_games(SlopeSquare(patience=1, step_back=1.0), threat, (3, 6, 6)):
        distance = torch.linalg.vector_norm((x - x0).flatten(1), ord=2 if norm == "l2" else torch.inf, dim=1)
        assert distance.max() <= 0.5 + (1 / 255 if rounds == "floor" else 1e-6)
        assert x.min() >= 0 and x.max() <= 1


def test_a_games_queries_do_not_depend_on_the_batch(referee, linear, images):
    model, x0 = linear(SHAPE, classes=4), images(5, SHAPE)
    far = lambda x, game, turn: model(x, game, turn) + torch.tensor([50.0, 0, 0, 0])  # noqa: E731
    label, key = torch.zeros(5, dtype=torch.int64), torch.tensor([7, 3, 11, 2, 900])
    threat = Threat(epsilon=0.2, budget=40)
    attacker = SlopeSquare(patience=1, trials=2, refresh_every=5)
    together = referee(far, x0, label, threat, key=key, seed=3, max_rows=2).play(attacker)
    for game in range(5):
        one = slice(game, game + 1)
        alone = referee(far, x0[one], label[one], threat, key=key[one], seed=3).play(attacker)
        assert torch.equal(alone.queries(0), together.queries(game))


def test_parameters():
    assert SlopeSquare().twin == Square(loss="margin")
    for name in ("patience", "trials"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1; found 0"):
            SlopeSquare(**{name: 0})
    with pytest.raises(ValueError, match="step_back must be at most 1; found"):
        SlopeSquare(step_back=1.5)
