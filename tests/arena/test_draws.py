import hashlib
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]
from torch import Tensor

from arena import draws

WORD = 0xFFFFFFFF
PI = ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0))
ONES = ((WORD,) * 4, (WORD,) * 2)
ZEROS = ((0,) * 4, (0,) * 2)
KNOWN = [  # Random123, kat_vectors
    (7, ZEROS, "5f6fb709 0d893f64 4f121f81 4f730a48"),
    (7, ONES, "5207ddc2 45165e59 4d8ee751 8c52f662"),
    (7, PI, "4dfccaba 190a87f0 c47362ba b6b5242a"),
    (10, ZEROS, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    (10, ONES, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (10, PI, "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
    pytest.param(
        "mps", marks=pytest.mark.skipif(not torch.backends.mps.is_available(), reason="no MPS device")
    ),
]
Draw = Callable[..., Tensor]
DRAWS: list[Draw] = [draws.uniform, draws.normal, lambda *a, **k: draws.integers(10, *a, **k)]
words = st.integers(0, WORD)


def reference(counter: tuple[int, ...], key: tuple[int, ...], rounds: int) -> list[int]:
    """Philox4x32 as the paper writes it (section 3.3), on plain integers."""
    (left0, right0, left1, right1), (k0, k1) = counter, key
    for _ in range(rounds):
        high0, low0 = divmod(0xD2511F53 * left0, 1 << 32)
        high1, low1 = divmod(0xCD9E8D57 * left1, 1 << 32)
        left0, right0, left1, right1 = high1 ^ right0 ^ k0, low1, high0 ^ right1 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % (1 << 32), (k1 + 0xBB67AE85) % (1 << 32)
    return [left0, right0, left1, right1]


def four(words: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    a, b, c, d = words.unbind(-1)
    return a, b, c, d


def reference_row(seed: int, game: int, turn: int, stream: int, count: int) -> list[int]:
    blocks = -(-count // 4)
    key = (seed % (1 << 32), (seed >> 32) % (1 << 32))
    out = [reference((block, game, turn, stream), key, draws.ROUNDS) for block in range(blocks)]
    return [out[block][word] for word in range(4) for block in range(blocks)][:count]


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize(("rounds", "block", "answer"), KNOWN)
def test_known_answers(rounds: int, block: tuple[tuple[int, ...], tuple[int, int]], answer: str) -> None:
    counter, key = block
    expected = [int(word, 16) for word in answer.split()]
    assert reference(counter, key, rounds) == expected
    assert [int(word) for word in draws.philox(four(torch.tensor(counter)), key, rounds)] == expected


@given(
    st.lists(st.tuples(words, words, words, words), min_size=1, max_size=5), words, words, st.integers(1, 12)
)
@settings(deadline=None)
def test_philox_is_the_reference(rows: list[tuple[int, ...]], k0: int, k1: int, rounds: int) -> None:
    got = torch.stack(draws.philox(four(torch.tensor(rows)), (k0, k1), rounds), 1)
    assert got.tolist() == [reference(row, (k0, k1), rounds) for row in rows]


def test_philox_keeps_shape_and_input() -> None:
    counter = four(torch.arange(24).view(2, 3, 4))
    before = [word.clone() for word in counter]
    assert all(word.shape == (2, 3) for word in draws.philox(counter, (1, 2)))
    assert all(torch.equal(a, b) for a, b in zip(counter, before, strict=True))
    with pytest.raises(ValueError, match="rounds is 0; it must be at least 1"):
        draws.philox(counter, (1, 2), 0)


@given(
    st.integers(-(2**70), 2**70),
    st.lists(st.tuples(words, words, words), min_size=1, max_size=4),
    st.integers(0, 11),
)
@settings(deadline=None)
def test_bits_are_the_reference_at_that_counter(
    seed: int, rows: list[tuple[int, int, int]], count: int
) -> None:
    game, turn, stream = torch.tensor(rows).unbind(1)
    got = draws.bits(seed, game, turn, count, stream=stream)
    assert got.dtype == torch.int64
    assert got.tolist() == [reference_row(seed, *row, count) for row in rows]


@pytest.mark.parametrize(("turn", "stream"), [(0, 0), (5, 0), (0, WORD), (WORD, 7)])
def test_plain_turns_and_streams_are_those_of_every_row(turn: int, stream: int) -> None:
    game = torch.tensor([4, 0, WORD])
    expected = [reference_row(99, g, turn, stream, 9) for g in game.tolist()]
    rows = torch.full((3,), turn), torch.full((3,), stream)
    assert draws.bits(99, game, turn, 9, stream=stream).tolist() == expected
    assert draws.bits(99, game, rows[0], 9, stream=stream).tolist() == expected
    assert draws.bits(99, game, turn, 9, stream=rows[1]).tolist() == expected
    assert draws.bits(99, game, rows[0], 9, stream=rows[1]).tolist() == expected


def test_blocks_beyond_one_piece_are_the_reference() -> None:
    """A row of more counters than are worked on at once, and more rows than that."""
    wide = draws.bits(3, torch.tensor([8, 9]), 2, 300_003)
    blocks = -(-300_003 // 4)
    for row, column in [(0, 0), (1, 15_999), (1, 16_000), (0, 32_768), (1, 75_000)]:
        expected = reference((column, 8 + row, 2, 0), (3, 0), draws.ROUNDS)[2]
        assert wide[row, 2 * blocks + column] == expected
    tall = draws.bits(3, torch.arange(70_000), 2, 1)
    for row in (0, 15_999, 16_000, 32_768, 69_999):
        assert tall[row].tolist() == reference_row(3, row, 2, 0, 1)


def test_uniforms_normals_and_integers_come_from_the_words() -> None:
    game, turn = torch.arange(50), torch.arange(50) % 7
    word = draws.bits(11, game, turn, 400).numpy()
    low = (word & 0xFFFFFF) / 2.0**24
    assert (draws.uniform(11, game, turn, (400,)).numpy() == low).all()
    for high in (1, 2, 10, 1000, 2**31):
        assert (draws.integers(high, 11, game, turn, (400,)).numpy() == word * high >> 32).all()
    w = low.reshape(50, 2, 2, 100)
    radius, angle = np.sqrt(-2 * np.log(1 - w[:, :, 0])), 2 * np.pi * w[:, :, 1]
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 2).reshape(50, 400)
    got = draws.normal(11, game, turn, (400,)).numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("shape", [(), (1,), (4,), (7,), (3, 5, 5), (1, 33), (3, 32, 32), (270_001,)])
def test_a_row_does_not_depend_on_its_batch(draw: Draw, shape: tuple[int, ...], threads: int) -> None:
    """Bit for bit, at every position: vectorised kernels may round otherwise in the tail of a loop."""
    generator = torch.Generator().manual_seed(0)
    most = {3072: 17, 270_001: 3}.get(math.prod(shape), 61)
    game, turn, stream = (torch.randint(0, 1 << 32, (most,), generator=generator) for _ in range(3))
    alone = torch.cat(
        [draw(5, game[i : i + 1], turn[i : i + 1], shape, stream=stream[i : i + 1]) for i in range(most)]
    )
    assert alone.shape == (most, *shape)
    assert alone.is_contiguous()
    for n in {1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 33, 60, 61} & set(range(most + 1)):
        index = torch.randperm(most, generator=generator)[:n]
        together = draw(5, game[index], turn[index], shape, stream=stream[index])
        assert torch.equal(together, alone[index])


@given(st.lists(st.tuples(words, words), min_size=1, max_size=200), st.integers(1, 130), st.data())
@settings(deadline=None, max_examples=30)
def test_normals_of_any_selection(rows: list[tuple[int, int]], count: int, data: st.DataObject) -> None:
    game, turn = torch.tensor(rows).unbind(1)
    everything = draws.normal(1, game, turn, (count,))
    index = torch.tensor(data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=40)), dtype=torch.int64)
    assert torch.equal(draws.normal(1, game[index], turn[index], (count,)), everything[index])


def test_threads_and_repeats_change_nothing() -> None:
    game = torch.arange(100)
    before = torch.get_num_threads()
    drawn = []
    for number in (1, 2, 1):
        torch.set_num_threads(number)
        drawn.append(draws.normal(2, game, 3, (3, 32, 32)))
    torch.set_num_threads(before)
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])


def test_draws_mix_with_inference_mode_and_gradients() -> None:
    game, seed = torch.arange(5), draws.derive(0, "a seed that no other test has used")
    with torch.inference_mode():
        inside = draws.normal(seed, game, 1, (6,))
    outside = draws.normal(seed, game, 1, (6,))
    assert torch.equal(inside, outside)
    x = torch.ones(5, 6, requires_grad=True)
    assert torch.equal(torch.autograd.grad((x * outside).sum(), x)[0], outside)


def test_draws_leave_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    draws.normal(0, torch.arange(5), 0, (3,))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("shape", [(1,), (4,), (3, 8, 8)])
def test_uniforms_are_uniform(shape: tuple[int, ...]) -> None:
    x = draws.uniform(draws.derive(1, "uniform"), torch.arange(200_000 // math.prod(shape)), 4, shape)
    assert x.dtype == torch.float32
    assert x.min() >= 0
    assert x.max() < 1
    assert stats.kstest(x.double().flatten(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("shape", [(1,), (4,), (3, 8, 8)])
def test_normals_are_normal(shape: tuple[int, ...]) -> None:
    x = draws.normal(draws.derive(1, "normal"), torch.arange(200_000 // math.prod(shape)), 4, shape)
    assert x.dtype == torch.float32
    z = x.double().flatten().numpy()
    assert stats.kstest(z, "norm").pvalue > 1e-3
    for moment, expected, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs((z**moment).mean() - expected) < 4 * math.sqrt(variance / z.size)
    assert abs((np.abs(z) > 3).mean() - 0.0026998) < 4 * math.sqrt(0.0027 / z.size)


def test_the_two_normals_of_a_pair_are_independent() -> None:
    z = draws.normal(3, torch.arange(50_000), 0, (4,)).double()
    correlation = torch.corrcoef(torch.cat([z, z**2], 1).T) - torch.eye(8)
    assert correlation.abs().max() < 5 / math.sqrt(len(z))
    angle = torch.atan2(z[:, 1], z[:, 0]) / (2 * math.pi) % 1
    assert stats.kstest(angle, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("high", [2, 10, 43])
def test_integers_are_uniform(high: int) -> None:
    x = draws.integers(high, 8, torch.arange(20_000), 1, (5,))
    assert x.dtype == torch.int64
    counts = torch.bincount(x.flatten(), minlength=high)
    assert len(counts) == high
    assert stats.chisquare(counts).pvalue > 1e-3


def test_every_bit_of_a_word_is_fair() -> None:
    word = draws.bits(21, torch.arange(10_000), 0, 4)
    share = torch.stack([(word >> i & 1).double().mean(0) for i in range(32)])
    assert (share - 0.5).abs().max() < 5 * 0.5 / math.sqrt(10_000)


def test_neighbouring_keys_are_independent() -> None:
    """Games, turns, streams and seeds one apart: no correlation of the draws or of their squares."""
    game = torch.arange(2000)
    row = (32,)
    drawn = [
        draws.normal(5, game, 7, row),
        draws.normal(5, game + 2000, 7, row),
        draws.normal(5, game, 8, row),
        draws.normal(5, game, torch.arange(2000) + 100, row),
        draws.normal(5, game, 7, row, stream=1),
        draws.normal(6, game, 7, row),
        draws.normal(5 + (1 << 32), game, 7, row),
        draws.normal(5, torch.full_like(game, 7), game + 10_000, row),
        draws.normal(draws.derive(5), game, 7, row),
        draws.normal(5, game, 7, row).roll(1, 0),
        draws.normal(5, game, 7, row).roll(1, 1),
    ]
    z = torch.stack([x.flatten() for x in drawn]).double()
    correlation = torch.corrcoef(torch.cat([z, z**2])) - torch.eye(2 * len(drawn))
    assert correlation.abs().max() < 5 / math.sqrt(z.shape[1])


def test_one_bit_of_the_counter_changes_half_of_the_word() -> None:
    base = draws.bits(1, torch.arange(500), 3, 4)
    for i in range(32):
        for other in (
            draws.bits(1, torch.arange(500) ^ 1 << i, 3, 4),
            draws.bits(1, torch.arange(500), 3 ^ 1 << i, 4),
            draws.bits(1, torch.arange(500), 3, 4, stream=1 << i),
            draws.bits(1 ^ 1 << i, torch.arange(500), 3, 4),
            draws.bits(1 ^ 1 << i + 32, torch.arange(500), 3, 4),
        ):
            changed = sum(((base ^ other) >> j & 1).sum().item() for j in range(32)) / base.numel() / 32
            assert abs(changed - 0.5) < 5 * 0.5 / math.sqrt(base.numel() * 32)


@pytest.mark.parametrize("device", DEVICES)
def test_devices_agree(device: str) -> None:
    game, turn = torch.arange(300), torch.arange(300) * 17 % 5
    for draw in DRAWS:
        here, there = draw(4, game, turn, (3, 9)), draw(4, game.to(device), turn.to(device), (3, 9))
        assert there.device == game.to(device).device
        if draw is draws.normal:
            torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-5)
        else:
            assert torch.equal(there.cpu(), here)


@pytest.mark.parametrize("by_row", [False, True])
def test_both_libraries_give_the_same_bits(by_row: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library for other devices, here on the host, on more words than one piece holds."""
    game = torch.randint(0, 1 << 32, (40,), generator=torch.Generator().manual_seed(1))
    turn, stream = (game.flip(0), game.roll(1)) if by_row else (WORD, 7)
    high = 1 << 31
    kinds: list[Draw] = [
        draws.uniform,
        draws.normal,
        lambda *a, **k: draws.integers(high, *a, **k),
        lambda *a, **k: draws.bits(*a[:3], math.prod(a[3]), **k).view(-1, *a[3]),
    ]

    def drawn() -> list[Tensor]:
        draws._schedule.cache_clear()
        return [draw(-9, game, turn, (3, 801), stream=stream) for draw in kinds]

    host = drawn()
    assert len(list(draws._pieces(40, 601, draws._LANES["cpu"]))) > 1
    monkeypatch.setattr(draws, "_library", lambda device: draws._TORCH)
    assert draws._words(game) is game
    elsewhere = drawn()
    monkeypatch.undo()
    draws._schedule.cache_clear()
    for a, b in zip(host, elsewhere, strict=True):
        assert torch.equal(a, b)


def test_empty_draws() -> None:
    none = torch.empty(0, dtype=torch.int64)
    assert draws.normal(0, none, 0, (3, 4)).shape == (0, 3, 4)
    assert draws.normal(0, torch.arange(3), 0, (0, 4)).shape == (3, 0, 4)
    assert draws.integers(5, 0, torch.arange(3), 0, ()).shape == (3,)


@pytest.mark.parametrize(
    ("game", "turn", "stream", "message"),
    [
        (
            torch.zeros(3),
            0,
            0,
            r"game is torch\.float32 \[3\] on cpu; it must be a torch\.int64 tensor \[n\]",
        ),
        (torch.arange(4).view(2, 2), 0, 0, r"game is torch\.int64 \[2, 2\]"),
        ([1, 2], 0, 0, "game is a list; it must be"),
        (torch.arange(3), torch.arange(2), 0, r"turn is torch\.int64 \[2\] on cpu; it must be .* \[3\]"),
        (torch.arange(3), torch.zeros(3), 0, r"turn is torch\.float32 \[3\]"),
        (torch.arange(3), torch.tensor(1), 0, r"turn is torch\.int64 \[\] on cpu"),
        (torch.arange(3), -1, 0, r"turn is -1; it must be in \[0, 2\^32\)"),
        (torch.arange(3), 0, 1 << 32, r"stream is 4294967296; it must be in"),
        (torch.arange(3), 0, torch.arange(3, device="meta"), r"stream is .* on meta; it must be .* on cpu"),
    ],
)
def test_bad_keys_are_named(game: Tensor, turn: Tensor | int, stream: Tensor | int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draws.normal(0, game, turn, (2,), stream=stream)


def test_bad_sizes_are_named() -> None:
    with pytest.raises(ValueError, match=r"shape is \(2, -1\); its sizes must not be negative"):
        draws.uniform(0, torch.arange(3), 0, (2, -1))
    for high in (0, (1 << 31) + 1):
        with pytest.raises(ValueError, match=rf"high is {high}; it must be in \[1, 2\^31\]"):
            draws.integers(high, 0, torch.arange(3), 0, (2,))


def test_derived_seeds_are_stable() -> None:
    """Pinned: another process and another version must come to the same, or a log could not be replayed."""
    assert draws.derive(0) == 5621864261735219286
    assert draws.derive(7, "attacker", 3) == 7403010954144156973
    digest = hashlib.blake2b(b'[7, "attacker", 3]', digest_size=8).digest()
    assert draws.derive(7, "attacker", 3) == int.from_bytes(digest, "little") // 2


def test_derived_seeds_differ() -> None:
    paths: list[tuple[str | int, ...]] = [
        (),
        ("a",),
        ("a", "b"),
        ("ab",),
        ("a", 1),
        ("a", "1"),
        (1,),
        ("1",),
        ("ä",),
    ]
    paths += [('a", "b',), ("a", 1, 1), ("a", 11), (-1,), (1 << 80,)]
    seeds = {draws.derive(seed, *path) for seed in (0, 1, -1, 1 << 70) for path in paths}
    assert len(seeds) == 4 * len(paths)
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    with pytest.raises(TypeError):
        draws.derive(0, 1.5)  # type: ignore[arg-type]
