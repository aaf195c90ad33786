from collections import deque

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.attackers.parts.walks import Window, around, length, nearest_of_each, orthogonal, towards


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_lengths_are_exact_where_float32_sums_are_not():
    v = numbers(2, 3, 64, 64).mul_(1e-4)
    v[0, 0, 0, 0], v[1, 0, 0, 0] = 1.0, -1.0
    expected = v.double().square().sum(dim=(1, 2, 3)).sqrt()
    assert torch.allclose(length(v), expected, rtol=1e-14, atol=0)
    assert length(v).dtype == torch.float64
    for k in range(2):
        assert torch.equal(length(v[k : k + 1]), length(v)[k : k + 1])


def test_a_point_on_the_sphere_lies_sigma_off_in_the_direction_given():
    x0, delta = torch.full((5, 3, 6, 7), 0.5), numbers(5, 3, 6, 7).mul_(0.01)
    sigma = torch.tensor([1e-6, 1e-3, 0.1, 1.0, 30.0], dtype=torch.float64)
    distance = length(delta)
    v = orthogonal(numbers(5, 3, 6, 7, seed=1), delta, distance)
    assert ((v * delta).double().flatten(1).sum(dim=1).abs() <= 1e-6 * distance * length(v)).all()
    off = (around(x0, delta, v, sigma, distance) - x0).double()
    assert torch.allclose(length(off), distance, rtol=3e-6)
    along = (off * delta).flatten(1).sum(dim=1) / distance
    across = (off * v).flatten(1).sum(dim=1) / length(v)
    assert torch.allclose(across / along, sigma, rtol=1e-4, atol=1e-6)


def test_without_direction_or_distance_nothing_breaks():
    x0, delta = torch.full((2, 1, 4, 4), 0.5), numbers(2, 1, 4, 4).mul_(0.01)
    delta[1] = 0
    distance, sigma = length(delta), torch.full((2,), 0.75, dtype=torch.float64)
    still = around(x0, delta, torch.zeros_like(delta), sigma, distance)
    assert torch.allclose(still, x0 + delta / 1.25, atol=1e-7)
    assert torch.equal(orthogonal(delta, delta, distance)[1], torch.zeros(1, 4, 4))


def test_towards_x0_goes_a_share_of_the_way_and_stays_in_the_box():
    x0, x = numbers(2, 3, 1, 4, 4).sigmoid()
    share = torch.tensor([0.0, 0.25, -50.0], dtype=torch.float64)
    y = towards(x0, x, share)
    assert torch.equal(y[0], x[0])
    assert torch.allclose(y[1], 0.75 * x[1] + 0.25 * x0[1])
    assert torch.allclose(y[2], (51 * x[2] - 50 * x0[2]).clamp(0, 1), atol=1e-4)
    assert y.min() >= 0 and y.max() <= 1


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 7),
    turns=st.lists(
        st.tuples(*[st.tuples(st.booleans(), st.booleans(), st.booleans())] * 3), min_size=1, max_size=40
    ),
)
def test_a_window_is_a_bounded_queue_for_each_game(size, turns):
    window = Window(5, size, torch.device("cpu"))
    i = torch.tensor([4, 0, 2])
    queues = [deque(maxlen=size) for _ in i]
    for turn in turns:
        outcome, known, clear = torch.tensor(turn).T
        window.push(i, outcome, known)
        for queue, (success, entered, _) in zip(queues, turn, strict=True):
            if entered:
                queue.append(success)
        full = [len(q) == size for q in queues]
        rates = [sum(q) / size for q in queues]
        assert window.full(i).tolist() == full
        assert window.verdict(i, 0.2, 0.5).tolist() == [
            f * ((r > 0.5) - (r < 0.2)) for f, r in zip(full, rates, strict=True)
        ]
        window.clear(i, clear)
        for queue, (_, _, forget) in zip(queues, turn, strict=True):
            if forget:
                queue.clear()
    assert not window.pushed[[1, 3]].any()


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0.5, 1.0, 2.0])), max_size=30))
@settings(max_examples=30, deadline=None)
def test_the_nearest_of_each_group_is_the_first_of_equals(rows):
    group, far = torch.tensor([g for g, _ in rows]).long(), torch.tensor([d for _, d in rows])
    expected = [min((d, k) for k, (g, d) in enumerate(rows) if g == name)[1] for name in {g for g, _ in rows}]
    assert sorted(nearest_of_each(group, far).tolist()) == sorted(expected)
