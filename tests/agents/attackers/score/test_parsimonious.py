import heapq

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.attackers.adaptive.eot import EOT
from agents.attackers.score.parsimonious import Blocks, Parsimonious
from arena.rules.threat import Threat

SHAPE = (1, 4, 4)
EPSILON = 0.1


CASES = [((1, 4, 4), 1, 16), ((2, 6, 4), 2, 12), ((3, 5, 5), 2, 27)]


def constant(x, game, turn):
    """Class 0 with margin 5, whatever is asked."""
    return torch.tensor([5.0, 0.0]).expand(len(x), 2).clone()


def out_of_reach(model):
    """The same slopes, but class 0 is always far ahead."""
    return lambda x, game, turn: model(x, game, turn) + torch.tensor([30.0, 0.0])


def zeros(n):
    return torch.zeros(n, dtype=torch.int64)


def slope(model):
    return model.weight[0] - model.weight[1]


def curved(shape, strength=40.0):
    """A margin with a random curvature, so that gains change with every flip."""
    d = shape[0] * shape[1] * shape[2]
    generator = torch.Generator().manual_seed(5)
    w, a = torch.randn(d, generator=generator), torch.randn(d, d, generator=generator)

    def model(x, game, turn):
        v = (x - 0.5).flatten(1)
        margin = 900 + v @ w + strength * ((v @ a) * v).sum(dim=1)
        return torch.stack([margin, torch.zeros_like(margin)], dim=1)

    return model


def cells(block, side, shape):
    """The flattened values of a block: numbered along rows, then columns, then channels."""
    height, width = shape[1:]
    down, across = -(-height // side), -(-width // side)
    channel, rest = divmod(block, down * across)
    top, left = divmod(rest, across)
    return [
        channel * height * width + row * width + column
        for row in range(top * side, min(height, top * side + side))
        for column in range(left * side, min(width, left * side + side))
    ]


def local_search(x, x0, sign, value, blocks, side):
    """Lazy greedy insertion and deletion with a heap, replayed on `x`, pairs (image, margin).

    Returns the margin of the signs [d] at the end, which are changed in place.
    """

    def ask(flipped):
        s = list(sign)
        for k in cells(flipped, side, x0.shape):
            s[k] = -s[k]
        image, margin = next(x)
        assert torch.allclose(image, (x0 + EPSILON * torch.tensor(s).view_as(x0)).clamp(0, 1), atol=1e-7)
        return margin

    def flip(block):
        for k in cells(block, side, x0.shape):
            sign[k] = -sign[k]

    for phase in (-1.0, 1.0):
        candidates = [
            (slot, b) for slot, b in enumerate(blocks) if sign[cells(b, side, x0.shape)[0]] == phase
        ]
        asked = [(ask(block), slot, block) for slot, block in candidates]
        heap = [(margin - value, slot, block) for margin, slot, block in asked]
        heapq.heapify(heap)
        if not heap or heap[0][0] >= 0:
            continue
        _, slot, block = heapq.heappop(heap)
        value = next(margin for margin, s, _ in asked if s == slot)
        flip(block)
        while heap:
            _, slot, block = heapq.heappop(heap)
            margin = ask(block)
            if heap and margin - value > heap[0][0]:
                heapq.heappush(heap, (margin - value, slot, block))
                continue
            if margin - value >= 0:
                break
            value = margin
            flip(block)
    return value


def mini_batch(x, x0, side, batch):
    """The blocks in which the first `batch` images that follow `x0`'s differ from it, in their order."""
    number = Blocks(x0.shape, side, torch.device("cpu")).number[0]
    return [int(number[(image != x0).nonzero()[0].unbind()]) for image in x[:batch]]


def test_on_a_linear_score_it_ends_at_the_best_vertex_at_a_cost_known_by_hand(referee, linear, images):
    """With all blocks in one mini-batch: b blocks, of which k lower the margin, are inserted for b + k - 1
    queries, and one more if any are left; deleting looks at all those inside, likewise."""
    model, x0 = linear(SHAPE, seed=12), images(3, SHAPE, low=0.2, high=0.8)
    w = slope(model)[0]
    halves = w.view(2, 2, 2, 2).sum(dim=(1, 3)).flatten()

    def cost(candidates, lower):
        return candidates + max(0, lower - 1) + (0 < lower < candidates)

    inside = halves < 0
    positive = inside.view(2, 2).repeat_interleave(2, dim=0).repeat_interleave(2, dim=1)
    k, wrong_out, wrong_in = (
        int(inside.sum()),
        int((~positive & (w < 0)).sum()),
        int((positive & (w > 0)).sum()),
    )
    budget = 1 + cost(4, k) + cost(k, 0)
    budget += cost(int((~positive).sum()), wrong_out) + cost(int(positive.sum()) + wrong_out, wrong_in)
    threat = Threat(epsilon=EPSILON, budget=budget + 16)
    table = referee(out_of_reach(model), x0, zeros(3), threat)
    table.play(Parsimonious(block=2, loss="margin"))
    assert 0 < k < 4 and wrong_out > 1 and wrong_in > 1
    for game in range(3):
        x, margins = table.queries(game), torch.tensor(table.margins(game))
        assert torch.equal(x[0], x0[game] - EPSILON)
        vertex = x0[game] - EPSILON * slope(model).sign()
        place = int(margins.argmin())
        assert torch.allclose(x[place], vertex, atol=1e-6)
        assert place in (budget - 1, budget - 2)  # the last query, or the one before the last, which fails
        # From there on candidates are single flips of the vertex: inserted, then deleted.
        after = (x[budget:] - vertex).abs() > 1e-6
        assert after.flatten(1).sum(dim=1).tolist() == [1] * 16


@pytest.mark.parametrize(
    ("shape", "side", "batch"), [((1, 4, 4), 1, 16), ((2, 6, 4), 2, 12), ((3, 5, 5), 2, 27)]
)
def test_each_image_is_that_of_the_lazy_greedy_search(referee, images, shape, side, batch):
    model, x0 = curved(shape), images(2, shape)
    table = referee(model, x0, zeros(2), Threat(epsilon=EPSILON, budget=300))
    table.play(Parsimonious(block=side, batch=batch, loss="margin"))
    for game in range(2):
        x, margins = table.queries(game), table.margins(game)
        blocks = mini_batch(x[1:], x[0], side, batch)
        assert sorted(blocks) == list(range(batch))
        sign, told = [-1.0] * x0[0].numel(), zip(x[1:], margins[1:], strict=True)
        value = local_search(told, x0[game], sign, margins[0], blocks, side)
        asked = 300 - 1 - len(list(told))
        assert asked > batch + 4
        assert value < margins[0]


def test_mini_batches_follow_each_other_then_smaller_blocks(referee, images):
    """Where nothing helps, a mini-batch is asked once: all of its blocks are outside."""
    shape = (2, 4, 4)
    table = referee(
        constant, images(2, shape, low=0.4, high=0.6), zeros(2), Threat(epsilon=EPSILON, budget=105)
    )
    table.play(Parsimonious(block=2, batch=3))
    assert table.volleys[0] == 2 * 4  # the image itself and three blocks
    for game in range(2):
        x = table.queries(game)
        sizes = ((x[1:] - x[0]).abs() > 1e-6).flatten(1).sum(dim=1).tolist()
        assert sizes == [4] * 8 + [1] * 96
        every = [mini_batch(x[1:], x[0], 2, 8)] + [mini_batch(x[k:], x[0], 1, 32) for k in (9, 41, 73)]
        assert [sorted(blocks) for blocks in every] == [list(range(len(blocks))) for blocks in every]
        assert every[1] != every[2] != every[3]
    assert not torch.equal(
        table.queries(0)[1] - table.queries(0)[0], table.queries(1)[1] - table.queries(1)[0]
    )


def test_the_image_is_asked_again_as_often_as_told(referee, images):
    x0 = images(1, SHAPE, low=0.4, high=0.6)
    for every, asked in ((0, []), (1, [4, 8, 12, 16]), (2, [7, 14])):
        table = referee(constant, x0, zeros(1), Threat(epsilon=EPSILON, budget=17))
        table.play(Parsimonious(block=1, batch=3, refresh_every=every))
        x = table.queries(0)
        assert [t for t in range(1, 17) if torch.equal(x[t], x[0])] == asked


def test_blocks_are_squares_of_one_channel_and_an_eighth_of_the_image():
    assert Blocks((3, 32, 32), None, torch.device("cpu")).count == [192, 768, 3072]
    assert Blocks((3, 224, 224), None, torch.device("cpu")).count[0] == 3 * 49
    assert Blocks((1, 28, 28), None, torch.device("cpu")).count == [49, 196, 784]
    assert Blocks((1, 3, 5), None, torch.device("cpu")).count == [15]
    blocks = Blocks((2, 3, 5), 2, torch.device("cpu"))
    assert blocks.number[0].tolist() == [
        [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]],
        [[6, 6, 7, 7, 8], [6, 6, 7, 7, 8], [9, 9, 10, 10, 11]],
    ]
    assert blocks.corner[0, :12].tolist() == [0, 2, 4, 10, 12, 14, 15, 17, 19, 25, 27, 29]


@settings(max_examples=25, deadline=None)
@given(
    epsilon=st.floats(0.01, 0.9),
    batch=st.integers(1, 20),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
)
def test_queries_are_vertices_of_the_ball_within_the_box(whole_games, epsilon, batch, shape):
    threat = Threat(epsilon=epsilon, budget=20, objective="submit")
    for x, x0 in whole_games(Parsimonious(batch=batch), threat, shape):
        up, down = (x0 + epsilon).clamp(0, 1), (x0 - epsilon).clamp(0, 1)
        assert (torch.minimum((x - up).abs(), (x - down).abs()) < 1e-6).all()


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("feedback", ["logits", "probabilities"])
def test_a_classifier_that_is_sure_in_float32_is_broken(referee, linear, images, targeted, feedback):
    """At a margin of 30 the probability is exactly 1, and its logarithm 0."""
    shape = (1, 8, 8)
    model, x0 = linear(shape), images(4, shape, low=0.4, high=0.6)
    w = slope(model)
    far = (x0 - 0.5).mul(w).flatten(1).sum(dim=1)

    def sure(x, game, turn):
        margin = 30 + 12 * (((x - 0.5) * w).flatten(1).sum(dim=1) - far[game])
        z = torch.stack([margin, torch.zeros_like(margin)], dim=1)
        return z if feedback == "logits" else z.softmax(dim=1)

    goal = {"goal": "targeted"} if targeted else {}
    target = torch.ones(4, dtype=torch.int64) if targeted else None
    threat = Threat(epsilon=0.05, budget=200, feedback=feedback, **goal)
    table = referee(sure, x0, zeros(4), threat, target=target).play(Parsimonious())
    assert all(table.hits)
    assert all(len(table.asked[game]) > 10 for game in range(4))


def test_targeted_it_ends_at_the_vertex_of_the_target(referee, linear, images):
    model, x0 = linear(SHAPE, classes=3), images(2, SHAPE, low=0.3, high=0.7)
    far = lambda x, game, turn: model(x, game, turn) + torch.tensor([30.0, 0, -300.0])  # noqa: E731
    threat = Threat(epsilon=EPSILON, budget=80, goal="targeted")
    table = referee(far, x0, zeros(2), threat, target=torch.ones(2, dtype=torch.int64)).play(Parsimonious())
    for game in range(2):
        end = table.queries(game)[torch.tensor(table.margins(game)).argmin()]  # class 2 never comes near
        assert torch.allclose(end, x0[game] - EPSILON * slope(model).sign(), atol=1e-6)


@pytest.mark.parametrize(("convention", "asked"), [("fixed", 60), ("adaptive", 180)])
def test_behind_eot_the_mean_decides(referee, images, convention, asked):
    x0 = images(2, SHAPE)
    noise = torch.randn(2, 200, generator=torch.Generator().manual_seed(0)) / 10

    def noisy(x, game, turn):
        return curved(SHAPE)(x, game, turn) + torch.stack([noise[game, turn], torch.zeros(len(x))], dim=1)

    attack = EOT(of=Parsimonious(block=1, loss="margin"), repeats=3, convention=convention)
    budget = 60 if convention == "fixed" else 60 * attack.budget_factor
    table = referee(noisy, x0, zeros(2), Threat(epsilon=EPSILON, budget=budget), facts=False).play(attack)
    for game in range(2):
        x, margins = table.queries(game), torch.tensor(table.margins(game))
        assert len(x) == asked
        assert torch.equal(x[::3], x[1::3]) and torch.equal(x[::3], x[2::3])
        if convention == "adaptive":
            means, sign = margins.view(-1, 3).mean(dim=1).tolist(), [-1.0] * 16
            blocks = mini_batch(x[3::3], x[0], 1, 16)
            told = zip(x[3::3], means[1:], strict=True)
            assert local_search(told, x0[game], sign, means[0], blocks, 1) < means[0]


def test_a_games_queries_do_not_depend_on_the_batch_or_on_short_volleys(referee, images):
    shape = (2, 5, 3)
    x0, key = images(5, shape), torch.tensor([7, 3, 11, 2, 900])
    model = curved(shape)
    threat, attack = Threat(epsilon=EPSILON, budget=140), Parsimonious(batch=9, refresh_every=2)
    together = referee(model, x0, zeros(5), threat, key=key, seed=3).play(attack)
    cut = referee(model, x0, zeros(5), threat, key=key, seed=3, max_rows=2).play(attack)
    assert max(cut.volleys) == 2 and max(together.volleys) == 50
    for game in range(5):
        one = slice(game, game + 1)
        alone = referee(model, x0[one], zeros(1), threat, key=key[one], seed=3).play(attack)
        assert torch.equal(alone.queries(0), together.queries(game))
        assert torch.equal(cut.queries(game), together.queries(game))


def test_a_refused_answer_is_never_kept(referee, linear, images):
    model, x0 = linear(SHAPE), images(2, SHAPE)
    table = referee(
        out_of_reach(model), x0, zeros(2), Threat(epsilon=EPSILON, budget=60), refuse=lambda g, t: t > 1
    )
    table.play(Parsimonious(block=1, batch=5))
    for game in range(2):
        x = table.queries(game)
        assert ((x - x[0]).abs() > 1e-6).flatten(1).sum(dim=1).max() == 1


@pytest.mark.parametrize("refused", [1, 12, 20])
def test_where_the_first_answers_are_refused_it_goes_on(referee, linear, images, refused):
    """Of the image itself, of some of its neighbours too (the first volley has 17 rows), and of all."""
    model, x0 = linear(SHAPE), images(2, SHAPE, low=0.3, high=0.7)
    threat = Threat(epsilon=EPSILON, budget=120)
    table = referee(out_of_reach(model), x0, zeros(2), threat, refuse=lambda game, turn: turn <= refused)
    table.play(Parsimonious())
    for game in range(2):
        end = table.queries(game)[torch.tensor(table.margins(game)).argmin()]
        assert torch.allclose(end, x0[game] - EPSILON * slope(model).sign(), atol=1e-6)


@pytest.mark.parametrize("max_rows", [4096, 3])
def test_under_submit_the_best_hit_of_a_volley_is_handed_in(referee, linear, images, max_rows):
    model, x0 = linear(SHAPE), images(10, SHAPE)
    every = torch.arange(10)
    label = model(x0, every, every).argmax(dim=1)
    threat = Threat(epsilon=EPSILON, budget=60, objective="submit")
    table = referee(model, x0, label, threat, max_rows=max_rows).play(Parsimonious())
    won = [game for game in range(10) if table.hits[game]]
    assert won and set(table.submitted) == set(won)
    for game in won:
        best = torch.tensor(table.margins(game)).argmin()
        assert torch.equal(table.submitted[game], table.queries(game)[best])


@pytest.mark.parametrize("wrong", [{"block": 0}, {"block": 6}, {"batch": 0}, {"refresh_every": -1}])
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Parsimonious(**wrong)


def test_what_it_needs():
    assert "norm" in (Parsimonious().needs.unmet(Threat(norm="l2", epsilon=1.0, budget=1)) or "")
