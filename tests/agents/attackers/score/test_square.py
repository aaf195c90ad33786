import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from agents.attackers.score.square import L2Squares, LinfSquares, Square, bump, halvings, oriented_patterns
from arena.rules import geometry
from arena.rules.threat import TOLERANCE, Threat

CIFAR, IMAGENET = (3, 32, 32), (3, 224, 224)


def deal(model, x0):
    every = torch.arange(len(x0))
    return model(x0, every, every).argmax(dim=1)


def out_of_reach(model):
    """The same slopes, but class 0 is always far ahead: no game ends before its budget."""
    return lambda x, game, turn: model(x, game, turn) + torch.tensor([1000.0, 0.0])


def distance(x, x0, norm):
    return torch.linalg.vector_norm((x - x0).flatten(1), ord=2 if norm == "l2" else math.inf, dim=1)


@pytest.fixture
def squares(referee, linear, images):
    """squares(kind, shape, games, share, epsilon): proposals for games on random images."""

    def make(kind, shape, games=1, share=lambda step: 0.05, epsilon=0.1, x0=None):
        norm = "linf" if kind is LinfSquares else "l2"
        x0 = images(games, shape) if x0 is None else x0
        model = linear(shape)
        threat = Threat(norm=norm, epsilon=epsilon, budget=10)
        return kind(referee(model, x0, torch.zeros(len(x0), dtype=torch.int64), threat).seat, share)

    return make


# The schedule


def test_p_is_halved_at_the_published_steps():
    last = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]
    for count, step in enumerate(last):
        assert halvings(step, 10_000) == count
        assert halvings(step + 1, 10_000) == count + 1
    assert halvings(0, 10_000) == 0 and halvings(50_000, 10_000) == 9


def test_a_shorter_schedule_is_the_same_one_compressed():
    assert [halvings(step, 100) for step in (0, 1, 2, 3, 5, 6, 10, 20, 40, 60, 80, 81)] == [
        0, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 9,
    ]  # fmt: skip


STAGES = [0, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001]


@pytest.mark.parametrize(
    ("shape", "p", "sides"),
    [
        (CIFAR, 0.05, [7, 5, 4, 3, 2, 1, 1, 1, 1, 1]),
        (CIFAR, 0.3, [18, 12, 9, 6, 4, 3, 2, 2, 1, 1]),
        (CIFAR, 0.8, [29, 20, 14, 10, 7, 5, 4, 3, 2, 1]),
        (IMAGENET, 0.05, [50, 35, 25, 18, 13, 9, 6, 4, 3, 2]),
        (IMAGENET, 0.3, [123, 87, 61, 43, 31, 22, 15, 11, 8, 5]),
        ((1, 8, 8), 1.0, [7, 6, 4, 3, 2, 1, 1, 1, 1, 1]),
        ((1, 1, 1), 1.0, [1] * 10),
        ((3, 4, 16), 1.0, [3, 3, 3, 3, 2, 1, 1, 1, 1, 1]),
    ],
)
def test_sides_in_linf(squares, shape, p, sides):
    proposals = squares(LinfSquares, shape, share=lambda step: p * 0.5 ** halvings(step, 10_000))
    assert [proposals.side(step) for step in STAGES] == sides


@pytest.mark.parametrize(
    ("shape", "p", "sides"),
    [
        (CIFAR, 0.1, [11, 7, 5, 5, 3, 3, 3, 3, 3, 3]),
        (CIFAR, 0.05, [7, 5, 5, 3, 3, 3, 3, 3, 3, 3]),
        ((1, 8, 8), 1.0, [7, 7, 5, 3, 3, 3, 3, 3, 3, 3]),
        ((1, 7, 9), 1.0, [7, 7, 5, 3, 3, 3, 3, 3, 3, 3]),
        ((1, 2, 5), 0.5, [1] * 10),
    ],
)
def test_sides_in_l2(squares, shape, p, sides):
    proposals = squares(L2Squares, shape, share=lambda step: p * 0.5 ** halvings(step, 10_000))
    assert [proposals.side(step) for step in STAGES] == sides


# l_inf


def test_linf_starts_with_vertical_stripes_at_the_vertices(squares, images):
    proposals = squares(LinfSquares, (3, 6, 50), games=40)
    x0 = proposals.games.x0
    start = proposals.start()
    low, high = (x0 - 0.1).clamp(0, 1), (x0 + 0.1).clamp(0, 1)
    up = start == high
    assert (up | (start == low)).all()
    assert (up == up[:, :, :1]).all()
    columns = up[:, :, 0].double()
    assert abs(columns.mean() - 0.5) < 5 * 0.5 / columns.numel() ** 0.5
    assert abs((columns[:, 0] == columns[:, 1]).double().mean() - 0.5) < 5 * 0.5 / 2000**0.5


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (4, 5, 11)])
def test_a_linf_step_repaints_one_square_with_a_sign_per_channel(squares, shape):
    games, side = 30, 3
    proposals = squares(LinfSquares, shape, games, share=lambda step: 9.4 / (shape[1] * shape[2]))
    x0, every = proposals.games.x0, torch.arange(games)
    low, high = (x0 - 0.1).clamp(0, 1), (x0 + 0.1).clamp(0, 1)
    x = proposals.start()
    starts = set()
    for step in range(80):
        candidate = proposals.propose(step, x, every)
        changed = candidate != x
        assert changed.flatten(1).any(dim=1).all()  # the signs are drawn until something changes
        assert ((candidate == high) | (candidate == low)).all()
        corner = proposals.ahead.at(step, every)[0].flatten().tolist()
        for game, (row, column) in enumerate(divmod(place, shape[2]) for place in corner):
            starts.add((row, column))
            window = torch.zeros(shape, dtype=torch.bool)
            window[:, row : row + side, column : column + side] = True
            assert not changed[game][~window].any()
            inside = slice(row, row + side), slice(column, column + side)
            up = (candidate[game] == high[game])[:, *inside]
            assert (up == up[:, :1, :1]).all()
        x = candidate
    rows, columns = ({s[axis] for s in starts} for axis in (0, 1))
    assert rows == set(range(shape[1] - side)) and columns == set(range(shape[2] - side))


@pytest.mark.parametrize("channels", [1, 3, 24, 25, 64, 100])
def test_every_channel_gets_both_signs_evenly_and_on_its_own(squares, channels):
    games = 250
    proposals = squares(LinfSquares, (channels, 4, 4), games=games)
    _, sign, other = proposals.choose(0, 32, torch.arange(games))
    for signs in (sign, other):
        assert signs.shape == (32, games, channels, 1)
        assert (signs.abs() == 1).all()
        rows = signs.reshape(-1, channels).double()
        # 8000 draws: a mean and a correlation of fair signs are within 5 / sqrt(8000) of 0.
        assert rows.mean(dim=0).abs().max() < 0.056
        between = rows.T @ rows / len(rows) - torch.eye(channels)
        assert between.abs().max() < 0.056
    assert (sign != other).any(dim=2).all()


def test_signs_are_uniform_over_those_that_change_the_window(squares):
    games, shape = 8000, (3, 4, 4)
    proposals = squares(LinfSquares, shape, x0=torch.full((games, *shape), 0.5))
    x = torch.full((games, *shape), 0.5)
    worn = torch.tensor([1.0, -1.0, 1.0]).view(3, 1, 1)  # by every window: one vector of signs is no change
    x += 0.1 * worn
    signs = (proposals.propose(0, x, torch.arange(games)) - 0.5).sign()
    place = proposals.ahead.at(0, torch.arange(games))[0].flatten()
    drawn = signs.flatten(2)[torch.arange(games), :, place]
    number = ((drawn + 1) / 2 @ torch.tensor([1.0, 2.0, 4.0])).long()
    counts = number.bincount(minlength=8).double()
    assert counts[5] == 0
    expected = games / 7
    chi_square = ((counts[[0, 1, 2, 3, 4, 6, 7]] - expected) ** 2 / expected).sum()
    assert chi_square < 22.5  # 6 degrees of freedom: exceeded with probability .001


# l_2


def rectangles_by_growing(a, b):
    """The pattern as the authors build it: nested rectangles about the centre, each adding (k + 1)^-2."""
    pattern = np.zeros((a, b))
    for k in range(max(a // 2, b // 2) + 1):
        rows = slice(max(a // 2 - k, 0), min(a // 2 + k + 1, a))
        columns = slice(max(b // 2 - k, 0), min(b // 2 + k + 1, b))
        pattern[rows, columns] += 1 / (k + 1) ** 2
    return pattern / np.sqrt((pattern**2).sum())


def square_pattern(s):
    eta = np.zeros((s, s))
    if s > 1:
        eta[: s // 2] = rectangles_by_growing(s // 2, s)
    eta[s // 2 :] = -rectangles_by_growing(s - s // 2, s)
    return eta / np.sqrt((eta**2).sum())


@pytest.mark.parametrize(("a", "b"), [(1, 1), (1, 3), (2, 3), (3, 7), (4, 7), (5, 5), (22, 44)])
def test_the_pattern_of_a_rectangle(a, b):
    assert_close(bump(a, b).numpy(), rectangles_by_growing(a, b), rtol=1e-12, atol=0)


def test_the_pattern_of_a_rectangle_in_closed_form():
    near, far = 1 + 1 / 4, 1 / 4
    expected = torch.tensor([[far, far, far], [far, near, far]], dtype=torch.float64)
    assert_close(bump(2, 3), expected / expected.norm())


@pytest.mark.parametrize("s", [1, 2, 3, 5, 6, 7, 44])
def test_the_pattern_of_a_square_and_its_transpose(s):
    patterns = oriented_patterns(s, torch.device("cpu"))
    assert_close(patterns[0].double().numpy(), square_pattern(s), rtol=1e-6, atol=1e-7)
    assert torch.equal(patterns[1], patterns[0].T)


def l2_step(x, x0, epsilon, s, corners, transposed, rho):
    """The step of the authors' code for one image, in float64."""
    (r1, c1), (r2, c2) = corners
    w1 = np.s_[:, r1 : r1 + s, c1 : c1 + s]
    w2 = np.s_[:, r2 : r2 + s, c2 : c2 + s]
    delta = x - x0
    union = np.zeros(x.shape, dtype=bool)
    union[w1] = union[w2] = True
    in_union = np.sqrt(((delta * union) ** 2).sum(axis=(1, 2), keepdims=True))
    eta = square_pattern(s).T if transposed else square_pattern(s)
    new = rho * eta + delta[w1] / (1e-10 + np.sqrt((delta[w1] ** 2).sum(axis=(1, 2), keepdims=True)))
    room = max(epsilon**2 - (delta**2).sum(), 0) / len(x) + in_union**2
    new = new / np.sqrt((new**2).sum(axis=(1, 2), keepdims=True)) * np.sqrt(room)
    delta[w2] = 0
    delta[w1] = new
    return np.clip(x0 + epsilon * delta / np.sqrt((delta**2).sum()), 0, 1)


@pytest.mark.parametrize("shape", [(1, 9, 9), (3, 8, 8), (3, 10, 7)])
def test_l2_steps_are_those_of_the_authors_code(squares, shape):
    games, epsilon = 12, 1.5
    share = lambda step: (25.0 if step < 6 else 9.0) / (shape[1] * shape[2])  # noqa: E731
    proposals = squares(L2Squares, shape, games, share, epsilon)
    x, x0, every = proposals.start(), proposals.games.x0, torch.arange(games)
    overlaps = 0
    for step in range(12):
        s = proposals.side(step)
        candidate = proposals.propose(step, x, every)
        first, second, orientation, rho = proposals.ahead.at(step, every)
        for game in range(games):
            corners = [divmod(int(places[game]), shape[2]) for places in (first, second)]
            overlaps += all(abs(a - b) < s for a, b in zip(*corners, strict=True))
            expected = l2_step(
                x[game].double().numpy(),
                x0[game].double().numpy(),
                epsilon,
                s,
                corners,
                bool(orientation[game]),
                rho[game].double().numpy().reshape(-1, 1, 1),
            )
            assert_close(candidate[game].double().numpy(), expected, rtol=0, atol=2e-6)
        x = candidate
    assert 10 < overlaps < 12 * games


def test_l2_orientations_signs_and_windows_are_evenly_drawn(squares):
    shape, games = (2, 9, 12), 3000
    proposals = squares(L2Squares, shape, games, lambda step: 25.0 / 108)
    first, second, orientation, rho = proposals.ahead.at(0, torch.arange(games))
    plus = (rho > 0).squeeze(-1).T
    assert rho.abs().eq(1).all()
    for share in (orientation.bool(), *plus, plus[0] == plus[1], plus[0] == orientation.bool()):
        assert abs(share.double().mean() - 0.5) < 4 * 0.5 / games**0.5
    for corner in (first.flatten(), second.flatten()):
        counts = torch.bincount(corner // 12 * 7 + corner % 12).double()
        assert (corner % 12).max() == 6 and len(counts) == 4 * 7
        assert ((counts - games / 28) ** 2 / (games / 28)).sum() < 55.5  # 27 degrees of freedom: .001
    assert abs((first == second).double().mean() - 1 / 28) < 4 * (1 / 28 / games) ** 0.5


@pytest.mark.parametrize(
    ("shape", "tile", "offset"),
    [((3, 32, 32), 6, (1, 1)), ((1, 28, 28), 5, (1, 1)), ((3, 32, 48), 6, (1, 0)), ((1, 3, 4), 1, (0, 0))],
)
def test_l2_starts_with_tiles_of_the_pattern_at_the_border_of_the_ball(squares, shape, tile, offset):
    games = 6
    proposals = squares(L2Squares, shape, games, epsilon=0.3, x0=torch.full((games, *shape), 0.5))
    delta = (proposals.start() - 0.5).double()
    assert_close(delta.flatten(1).norm(dim=1), torch.full((games,), 0.3).double(), rtol=1e-5, atol=0)
    m, n = shape[1] // tile, shape[2] // tile
    top, left = offset
    covered = delta[:, :, top : top + m * tile, left : left + n * tile]
    assert covered.square().sum() == pytest.approx(games * 0.09, rel=1e-5)
    tiles = covered.unflatten(3, (n, tile)).unflatten(2, (m, tile)).transpose(3, 4)
    eta = torch.from_numpy(square_pattern(tile)) * 0.3 / math.sqrt(shape[0] * m * n)
    straight, turned = ((tiles.abs() - e.abs()).abs().amax(dim=(-1, -2)) < 1e-6 for e in (eta, eta.T))
    assert (straight | turned).all()
    if tile > 1:
        signs = (tiles * torch.where(straight[..., None, None], eta, eta.T)).sum(dim=(-1, -2)).sign()
        for share in ((signs > 0).double().mean(), straight[:, 0].double().mean()):
            assert abs(share - 0.5) < 5 * 0.5 / straight[:, 0].numel() ** 0.5
        assert (straight == straight[:, :1]).all()  # one orientation for all channels


@pytest.mark.parametrize(
    ("shape", "epsilon"), [(CIFAR, 2.5), (CIFAR, 5.0), (IMAGENET, 0.5), (IMAGENET, 1.0), (IMAGENET, 10.0)]
)
def test_l2_queries_are_inside_the_ball_as_the_referee_measures_it(squares, images, shape, epsilon):
    games = 4
    proposals = squares(L2Squares, shape, games, epsilon=epsilon, x0=images(games, shape, 0.4, 0.6))
    x, x0 = proposals.start(), proposals.games.x0
    for step in range(3):
        length, clipped = geometry.distance(x, x0, "l2"), ((x == 0) | (x == 1)).flatten(1).any(dim=1)
        assert (length <= epsilon + TOLERANCE).all()
        assert (clipped | (length > 0.9999 * epsilon)).all()
        x = proposals.propose(step, x, torch.arange(games))


def test_l2_mass_that_the_box_clips_is_spent_again(squares, images):
    shape, games = (1, 8, 8), 20
    proposals = squares(L2Squares, shape, games, lambda step: 0.2, 3.0, x0=images(games, shape, 0.0, 0.2))
    x, x0, every = proposals.start(), proposals.games.x0, torch.arange(games)
    for step in range(40):
        new = proposals.propose(step, x, every)
        x = torch.where((distance(new, x0, "l2") > distance(x, x0, "l2")).view(-1, 1, 1, 1), new, x)
    assert (distance(x, x0, "l2") > distance(proposals.start(), x0, "l2") + 0.3).all()


# The attack


@settings(max_examples=40, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(0.001, 0.999),
    p=st.floats(0.001, 1.0),
    length=st.integers(1, 100),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 12)),
)
def test_queries_stay_in_ball_and_box(whole_games, norm, epsilon, p, length, shape):
    threat = Threat(norm=norm, epsilon=epsilon, budget=8)
    for x, x0 in whole_games(Square(p=p, schedule_length=length), threat, shape):
        assert x.isfinite().all() and x.min() >= 0 and x.max() <= 1
        assert distance(x, x0, norm).max() <= epsilon + 1e-6


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_one_query_a_step_and_the_incumbent_changes_where_the_loss_falls(referee, linear, images, norm):
    shape = (3, 12, 12)
    model, x0 = out_of_reach(linear(shape)), images(5, shape)
    threat = Threat(norm=norm, epsilon=0.1 if norm == "linf" else 1.0, budget=60)
    table = referee(model, x0, torch.zeros(5, dtype=torch.int64), threat).play(Square())
    assert table.volleys == [5] * 60
    for game in range(5):
        assert table.purposes(game) == ["start"] + ["search"] * 59
        x, margins = table.queries(game), table.margins(game)
        incumbent, falls = 0, 0
        for t in range(1, 60):
            # In l_inf, what a candidate leaves of its incumbent: all but a square of side 2 here at most 3.
            changed = (x[t] != x[incumbent]).any(dim=0)
            if norm == "linf":
                rows, columns = (changed.any(dim=axis).nonzero().flatten() for axis in (1, 0))
                assert rows.max() - rows.min() < 3 and columns.max() - columns.min() < 3
            if margins[t] < margins[incumbent]:
                incumbent, falls = t, falls + 1
        assert falls > 3
        assert margins[incumbent] == min(margins)


@pytest.mark.parametrize(("classes", "norm"), [(2, "linf"), (5, "linf"), (2, "l2"), (5, "l2")])
def test_it_breaks_a_linear_classifier_whose_margin_is_within_reach(referee, linear, images, classes, norm):
    shape, games = (1, 8, 8), 24
    model, x0 = linear(shape, classes), images(games, shape, low=0.3, high=0.7)
    label = deal(model, x0)
    scores, w = model(x0, label, label), model.weight.flatten(1)
    own = torch.nn.functional.one_hot(label, classes).bool()
    slopes = (w[label].unsqueeze(1) - w).norm(p=1 if norm == "linf" else 2, dim=2)
    gap = scores.gather(1, label.unsqueeze(1)) - scores
    needed = (gap / slopes.clamp_min(1e-9)).masked_fill(own, math.inf).amin(dim=1)  # the exact distance
    epsilon = float(needed.median()) - 1e-4
    table = referee(model, x0, label, Threat(norm=norm, epsilon=epsilon, budget=500)).play(Square())
    broken = torch.tensor([bool(hits) for hits in table.hits])
    near, far = needed < (0.6 if norm == "linf" else 0.4) * epsilon, needed > epsilon
    assert near.sum() >= 3 and far.sum() >= 12
    assert broken[near].all() and not broken[far].any()


def test_the_margin_of_a_linear_classifier_falls_to_near_its_least(referee, linear, images):
    shape, epsilon = (1, 8, 8), 0.05
    model, x0 = linear(shape), images(4, shape, low=0.3, high=0.7)
    threat = Threat(epsilon=epsilon, budget=600)
    table = referee(out_of_reach(model), x0, torch.zeros(4, dtype=torch.int64), threat).play(
        Square(schedule_length=600)
    )
    slope = (model.weight[0] - model.weight[1]).double()
    for game in range(4):
        least = table.queries(game)[0].double()
        covered = (slice(None), slice(None, -1), slice(None, -1))  # never the last row and column
        least[covered] = (x0[game].double() - epsilon * slope.sign())[covered]
        assert min(table.margins(game)) == pytest.approx(
            1000 + float(((least - 0.5) * slope).sum()), abs=1e-3
        )


def test_draws_depend_on_seed_and_game_and_not_on_the_batch(referee, linear, images):
    shape = (2, 7, 9)
    model, x0 = linear(shape, classes=4), images(5, shape)
    label, key = deal(model, x0), torch.tensor([7, 3, 11, 2, 900])
    attacker = Square(refresh_every=7, schedule_length=60)
    for norm, epsilon in (("linf", 0.03), ("l2", 0.2)):
        threat = Threat(norm=norm, epsilon=epsilon, budget=80)
        together = referee(model, x0, label, threat, key=key, seed=3).play(attacker)
        assert len({len(asked) for asked in together.asked}) > 1
        for game in range(5):
            one = slice(game, game + 1)
            alone = referee(model, x0[one], label[one], threat, key=key[one], seed=3).play(attacker)
            assert torch.equal(alone.queries(0), together.queries(game))
            other = referee(model, x0[one], label[one], threat, key=key[one], seed=4).play(attacker)
            assert not torch.equal(other.queries(0)[0], together.queries(game)[0])


def test_short_volleys_change_nothing(referee, linear, images):
    shape = (1, 6, 6)
    model, x0 = linear(shape), images(5, shape)
    label, threat = deal(model, x0), Threat(epsilon=0.03, budget=30)
    whole = referee(model, x0, label, threat).play(Square())
    cut = referee(model, x0, label, threat, max_rows=2).play(Square())
    assert max(cut.volleys) == 2
    assert all(torch.equal(cut.queries(game), whole.queries(game)) for game in range(5))


def test_the_clean_query_and_the_refreshed_incumbent_are_counted(referee, linear, images):
    shape = (1, 6, 6)
    model, x0 = out_of_reach(linear(shape)), images(3, shape)
    table = referee(model, x0, torch.zeros(3, dtype=torch.int64), Threat(epsilon=0.03, budget=12))
    table.play(Square(clean_query=True, refresh_every=3))
    for game in range(3):
        expected = ["clean", "start", *["search"] * 3, "refresh", *["search"] * 3, "refresh", *["search"] * 2]
        assert table.purposes(game) == expected
        x, margins = table.queries(game), table.margins(game)
        assert torch.equal(x[0], x0[game])
        for at in (5, 9):
            best = 1 + int(np.argmin(margins[1:at]))
            assert torch.equal(x[at], x[best])


def test_targeted_it_minimises_the_cross_entropy_unless_told(referee, linear, images):
    shape, games, steps = (1, 6, 6), 8, 60
    model, x0 = linear(shape, classes=6), images(games, shape)
    label = deal(model, x0)
    target = (label + 1) % 6
    threat = Threat(epsilon=0.003, budget=steps + 2, goal="targeted")
    best = {}
    for loss in (None, "cross-entropy", "margin"):
        attacker = Square(loss=loss, refresh_every=steps)
        table = referee(model, x0, label, threat, target=target).play(attacker)
        for game in range(games):
            assert table.purposes(game)[-1] == "refresh"
            z = torch.stack([scores for _, _, scores in table.asked[game]]).double()[:-1]
            others = z.index_fill(1, target[game], -math.inf).amax(dim=1)
            losses = {
                "cross-entropy": -z.log_softmax(dim=1)[:, target[game]],
                "margin": others - z[:, target[game]],
            }
            lowest = {kind: int(of.argmin()) for kind, of in losses.items()}
            best[loss, game] = lowest
            x = table.queries(game)
            assert torch.equal(x[-1], x[lowest[loss or "cross-entropy"]])
    assert any(lowest["margin"] != lowest["cross-entropy"] for lowest in best.values())


def test_under_submit_the_first_hit_is_kept_noted_and_handed_in(referee, linear, images):
    shape = (1, 8, 8)
    model, x0 = linear(shape), images(12, shape)
    for norm, epsilon in (("linf", 0.05), ("l2", 0.4)):
        threat = Threat(norm=norm, epsilon=epsilon, budget=100, objective="submit")
        table = referee(model, x0, deal(model, x0), threat).play(Square())
        won = [game for game in range(12) if table.hits[game]]
        assert won and set(table.submitted) == set(won)
        for game in won:
            assert table.hits[game] == [len(table.asked[game])]
            assert torch.equal(table.submitted[game], table.queries(game)[-1])
        assert {(key, game, turn) for key, game, turn in table.notes} == {
            ("accepted", game, len(table.asked[game])) for game in won
        }


def test_rescaled_the_schedule_ends_with_the_budget(referee, linear, images):
    shape = (1, 16, 16)
    model, x0 = out_of_reach(linear(shape)), images(2, shape)
    threat, label = Threat(epsilon=0.1, budget=100), torch.zeros(2, dtype=torch.int64)
    sizes = {}
    for rescale in (False, True):
        table = referee(model, x0, label, threat).play(Square(p=0.5, rescale=rescale, refresh_every=1))
        x = table.queries(0)
        last = (x[97] != x[96]) if table.purposes(0)[97] == "search" else (x[98] != x[97])
        sizes[rescale] = int(last.any(dim=0).any(dim=0).sum())
    assert sizes[True] == 1 < sizes[False]
    assert Square().needs.prefix and not Square(rescale=True).needs.prefix


@pytest.mark.parametrize(
    "wrong", [{"p": 0.0}, {"p": 1.5}, {"p": math.nan}, {"schedule_length": 0}, {"refresh_every": -1}]
)
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Square(**wrong)
