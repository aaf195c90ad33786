import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.attackers.score.random_search import RandomSearch
from arena.rules.threat import Threat

SHAPE = (1, 4, 4)
NORMAL = torch.randn(8, 100, generator=torch.Generator().manual_seed(0))


def constant(x, game, turn):
    """Class 0 with margin 5, whatever is asked."""
    return torch.tensor([5.0, 0.0]).expand(len(x), 2).clone()


def noisy(x, game, turn):
    """Class 0, margins 20 plus a standard normal that depends on game and turn alone."""
    return torch.stack([NORMAL[game, turn] + 20, torch.zeros(len(x))], dim=1)


def out_of_reach(model):
    """The same slopes, but class 0 is always far ahead."""
    return lambda x, game, turn: model(x, game, turn) + torch.tensor([100.0, 0.0])


def deal(model, x0):
    every = torch.arange(len(x0))
    return model(x0, every, every).argmax(dim=1)


def test_it_starts_at_the_clean_image_and_asks_once_a_step(referee, linear, images):
    model, x0 = linear(SHAPE), images(6, SHAPE)
    table = referee(model, x0, deal(model, x0), Threat(epsilon=0.01, budget=40)).play(RandomSearch())
    for game in range(6):
        assert len(table.asked[game]) == 40
        assert table.purposes(game) == ["start"] + ["search"] * 39
        assert torch.equal(table.queries(game)[0], x0[game])
    assert table.volleys == [6] * 40


def test_steps_are_gaussian_of_length_mu_from_an_incumbent_that_only_falls(referee, linear, images):
    shape = (3, 8, 8)
    model, x0 = linear(shape), images(4, shape, low=0.4, high=0.6)
    threat = Threat(norm="l2", epsilon=100, budget=60)
    table = referee(out_of_reach(model), x0, torch.zeros(4, dtype=torch.int64), threat)
    table.play(RandomSearch(mu=0.01))
    steps = []
    for game in range(4):
        margins, queries = table.margins(game), table.queries(game)
        incumbent, best = queries[0], margins[0]
        accepted = 0
        for x, margin in zip(queries[1:], margins[1:], strict=True):
            steps.append((x - incumbent) / 0.01)
            if margin < best:
                incumbent, best, accepted = x, margin, accepted + 1
        assert 10 < accepted < 50  # about half of the steps go down a linear function
    u = torch.stack(steps).double().flatten()
    assert abs(u.mean()) < 5 / len(u) ** 0.5
    assert abs(u.square().mean() - 1) < 5 * (2 / len(u)) ** 0.5
    assert abs(u.pow(4).mean() - 3) < 5 * (96 / len(u)) ** 0.5


@settings(max_examples=25, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(0.01, 0.9),
    mu=st.floats(0.001, 3.0),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)),
)
def test_queries_stay_in_ball_and_box(whole_games, norm, epsilon, mu, shape):
    threat = Threat(norm=norm, epsilon=epsilon, budget=8, objective="submit")
    for x, x0 in whole_games(RandomSearch(mu=mu), threat, shape):
        distance = torch.linalg.vector_norm((x - x0).flatten(1), ord=2 if norm == "l2" else torch.inf, dim=1)
        assert distance.max() <= epsilon + 1e-6
        assert x.min() >= 0 and x.max() <= 1


def test_with_refresh_one_both_sides_of_a_comparison_are_fresh(referee, images):
    x0 = images(8, SHAPE)
    threat = Threat(epsilon=0.5, budget=81)
    label = torch.zeros(8, dtype=torch.int64)
    table = referee(noisy, x0, label, threat).play(RandomSearch(refresh_every=1))
    share = 0.0
    for game in range(8):
        assert table.purposes(game)[:5] == ["start", "search", "refresh", "search", "refresh"]
        queries, margins = table.queries(game), table.margins(game)
        for t in range(0, 80, 2):
            taken = margins[t + 1] < margins[t]
            assert torch.equal(queries[t + 2], queries[t + 1] if taken else queries[t])
            share += taken / (8 * 40)
    assert 0.35 < share < 0.65  # pure noise: every other step


def test_without_refresh_the_luckiest_answer_stays_the_bar(referee, images):
    x0 = images(8, SHAPE)
    threat = Threat(epsilon=0.5, budget=81)
    table = referee(noisy, x0, torch.zeros(8, dtype=torch.int64), threat).play(RandomSearch())
    records = 0
    for game in range(8):
        margins = table.margins(game)
        records += sum(m < min(margins[:t]) for t, m in enumerate(margins) if t)
    expected = 8 * sum(1 / (t + 1) for t in range(1, 81))
    assert abs(records - expected) < 5 * expected**0.5


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_breaks_a_linear_classifier_whose_margin_is_within_reach(referee, linear, images, norm):
    shape = (1, 8, 8)
    model, x0 = linear(shape), images(10, shape, low=0.3, high=0.7)
    label = deal(model, x0)
    epsilon = 0.1 if norm == "linf" else 0.8
    w = (model.weight[0] - model.weight[1]).flatten()
    reach = epsilon * w.norm(p=1 if norm == "linf" else 2)
    scores = model(x0, label, label)
    margin = (scores[:, 0] - scores[:, 1]).abs()
    threat = Threat(norm=norm, epsilon=epsilon, budget=400)
    table = referee(model, x0, label, threat).play(RandomSearch(mu=0.02))
    in_reach = [game for game in range(10) if margin[game] < 0.5 * reach]
    assert len(in_reach) >= 5
    assert all(table.hits[game] for game in in_reach)
    assert not any(table.hits[game] for game in range(10) if margin[game] > reach)


def test_a_games_queries_do_not_depend_on_the_batch(referee, linear, images):
    shape = (2, 5, 3)
    model, x0 = linear(shape, classes=4), images(5, shape)
    label, key = deal(model, x0), torch.tensor([7, 3, 11, 2, 900])
    threat = Threat(epsilon=0.2, budget=30)
    together = referee(model, x0, label, threat, key=key, seed=3).play(RandomSearch(refresh_every=4))
    for game in range(5):
        one = slice(game, game + 1)
        alone = referee(model, x0[one], label[one], threat, key=key[one], seed=3)
        alone.play(RandomSearch(refresh_every=4))
        assert torch.equal(alone.queries(0), together.queries(game))


def test_short_volleys_change_nothing(referee, linear, images):
    model, x0 = linear(SHAPE), images(5, SHAPE)
    label = deal(model, x0)
    threat = Threat(epsilon=0.05, budget=20)
    whole = referee(model, x0, label, threat).play(RandomSearch())
    cut = referee(model, x0, label, threat, max_rows=2).play(RandomSearch())
    assert max(cut.volleys) == 2
    for game in range(5):
        assert torch.equal(cut.queries(game), whole.queries(game))


def test_under_submit_the_first_hit_is_noted_and_handed_in(referee, linear, images):
    model, x0 = linear(SHAPE), images(10, SHAPE)
    threat = Threat(epsilon=0.2, budget=150, objective="submit")
    table = referee(model, x0, deal(model, x0), threat).play(RandomSearch(mu=0.05))
    won = [game for game in range(10) if table.hits[game]]
    assert won and set(table.submitted) == set(won)
    for game in won:
        assert table.hits[game] == [len(table.asked[game])]
        assert torch.equal(table.submitted[game], table.queries(game)[-1])
        assert ("accepted", game, len(table.asked[game])) in table.notes


def test_a_refused_answer_is_never_kept(referee, linear, images):
    model, x0 = linear(SHAPE), images(3, SHAPE)
    threat = Threat(epsilon=0.01, budget=30)
    table = referee(model, x0, deal(model, x0), threat, refuse=lambda game, turn: turn > 1)
    table.play(RandomSearch(refresh_every=1))
    for game in range(3):
        incumbents = table.queries(game)[2::2]
        assert len(incumbents) == 14 and all(torch.equal(x, x0[game]) for x in incumbents)


def test_a_refused_refresh_leaves_the_bar_where_it_was(referee, images):
    x0 = images(1, SHAPE)

    def scripted(x, game, turn):
        margin = torch.tensor([0.0, 10.0, 11.0, 0.0, 12.0, 10.0])[turn]
        return torch.stack([margin, torch.zeros(len(x))], dim=1)

    threat, label = Threat(epsilon=0.1, budget=5), torch.zeros(1, dtype=torch.int64)
    table = referee(scripted, x0, label, threat, refuse=lambda game, turn: turn == 3)
    table.play(RandomSearch(refresh_every=1))
    assert table.purposes(0) == ["start", "search", "refresh", "search", "refresh"]
    assert torch.equal(table.queries(0)[4], x0[0])


def test_a_constant_answer_is_no_fall(referee, images):
    x0 = images(3, SHAPE)
    threat = Threat(epsilon=0.1, budget=9)
    table = referee(constant, x0, torch.zeros(3, dtype=torch.int64), threat).play(
        RandomSearch(refresh_every=1)
    )
    for game in range(3):
        assert all(torch.equal(x, x0[game]) for x in table.queries(game)[::2])


@pytest.mark.parametrize("wrong", [{"mu": 0.0}, {"mu": -1.0}, {"refresh_every": -1}])
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RandomSearch(**wrong)


def test_what_it_needs():
    needs = RandomSearch().needs
    assert needs.unmet(Threat(epsilon=0.1, budget=1)) is None
    assert "scores" in (needs.unmet(Threat(epsilon=0.1, budget=1, feedback="label")) or "")
    assert "objective" in (needs.unmet(Threat(epsilon=0.1, budget=1, objective="minimum")) or "")
