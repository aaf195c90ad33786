"""Random draws keyed by (seed, game, turn): the same in any batch, in any order and on any device.

The generator is Philox4x32 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3",
SC 2011): a keyed bijection of a 128-bit counter. The counter of a draw holds (block, game, turn, stream), its
key is the seed, so that row i of a draw depends on seed, game[i], turn[i], stream[i] and the shape of a row
alone. A shorter row is not the beginning of a longer one.

Seven rounds are the fewest that pass BigCrush (table 2 there) and cost about 0.7 of the ten that the paper
recommends as a margin of safety; these draws have to be random, not secret.

Words, uniforms and integers are bit for bit the same on all devices. Normals are bit for bit the same in any
batch on one machine; on different kinds of device the last bits of log1p, cos and sin may differ.
"""

import hashlib
import json
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["ROUNDS", "bits", "derive", "integers", "normal", "philox", "uniform"]

ROUNDS = 7
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF
_GRID = 1 << 24  # a float32 in [0, 1) holds the lower 24 bits of a word without rounding
# Counters at a time. On the host their working memory, 48 bytes each, stays in the cache, and two lanes of
# them are too few (below 32768) for torch to use threads, which would wait for each other after every
# operation. With fewer counters the calls would cost too much: about 60 microseconds a piece.
_LANES = {"cpu": (1 << 14) - 1}
_LANES_ELSEWHERE = 1 << 22

# Tensors without dimensions live on the host and act on any device; on small tensors an operation with one
# takes half of the time of the same operation with a Python number.
_STEP, _MINUS_STEP, _MINUS_TWO, _TURN = (
    torch.tensor(value, dtype=torch.float32, device="cpu")
    for value in (1 / _GRID, -1 / _GRID, -2, 2 * math.pi / _GRID)
)

_Words = Any  # words of a counter in the library that computes them: an array, or an integer
_Round = tuple[_Words, _Words]  # multipliers of a round and its keys, if not yet applied: [2, 1, 1]
_Finish = Callable[["_Piece", Tensor], None]  # from unmasked words to results [o, l, n, b]


class _Library(NamedTuple):
    """The library that computes words: numpy or torch, which have the same names for these operations.

    On the host numpy multiplies 64-bit integers in half of torch's time, and its words are unsigned, so that
    a right shift fills in zeros. On other devices torch's words are int64.
    """

    xp: Any
    unsigned: bool
    mask: _Words
    shift: _Words


_LOW = np.int32(_GRID - 1)
_NUMPY = _Library(np, True, np.uint64(_WORD), np.uint64(32))
_TORCH = _Library(torch, False, torch.tensor(_WORD, device="cpu"), torch.tensor(32, device="cpu"))


class _Piece(NamedTuple):
    """Memory for n rows and b blocks, named by the steps of a draw."""

    library: _Library
    scratch: _Words  # [3, 2, n, b]
    words: _Words  # [2, 2, n, b], scratch[1:]: word 2 l + o is in [o, l]
    narrow: _Words  # the same words as int32, in scratch[0]; None for torch
    floats: Tensor  # the same words as float32, in scratch[1], or in scratch[0] for torch
    halves: tuple[Tensor, Tensor]  # floats[0] and floats[1]
    spare: Tensor  # float32 [2, n, b], in scratch[2]


def derive(seed: int, *words: str | int) -> int:
    """A child seed in [0, 2^63), from a seed and the words that say what it is for.

    The same in all processes, machines and versions: BLAKE2b of seed and words as ASCII JSON. Another seed or
    other words give another child, except by chance; `derive(0, "1")` is not `derive(0, 1)`.
    """
    path = [
        operator.index(seed),
        *(word if isinstance(word, str) else operator.index(word) for word in words),
    ]
    digest = hashlib.blake2b(json.dumps(path).encode("ascii"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def uniform(
    seed: int, game: Tensor, turn: Tensor | int, shape: Sequence[int], *, stream: Tensor | int = 0
) -> Tensor:
    """Uniform draws in [0, 1), multiples of 2^-24: float32 [n, *shape] on the device of `game`.

    `game` is int64 [n]; `turn` and `stream` are each an integer or int64 [n] on the same device. All must be
    in [0, 2^32), which is checked for integers only: looking into tensors would wait for the device. `seed`
    counts modulo 2^64. Raises ValueError for another dtype, shape, device or range.
    """

    def finish(piece: _Piece, result: Tensor) -> None:
        _to_floats(piece)
        for half, part in zip(piece.halves, result, strict=True):
            torch.mul(half, _STEP, out=part)

    return _draw(torch.float32, finish, seed, game, turn, shape, stream)


def normal(
    seed: int, game: Tensor, turn: Tensor | int, shape: Sequence[int], *, stream: Tensor | int = 0
) -> Tensor:
    """Standard normal draws: float32 [n, *shape]; arguments and errors as for `uniform`.

    Box and Muller (1958) on u in (0, 1] and v in [0, 1), both multiples of 2^-24: sqrt(-2 ln u) cos(2 pi v)
    and sqrt(-2 ln u) sin(2 pi v). No draw is farther from 0 than sqrt(48 ln 2) = 5.77.
    """

    def finish(piece: _Piece, result: Tensor) -> None:
        _to_floats(piece)
        radius, angle = piece.halves
        angle.mul_(_TURN)
        radius.mul_(_MINUS_STEP).log1p_().mul_(_MINUS_TWO).sqrt_()
        torch.mul(torch.cos(angle, out=piece.spare), radius, out=result[0])
        torch.mul(angle.sin_(), radius, out=result[1])

    return _draw(torch.float32, finish, seed, game, turn, shape, stream)


def integers(
    high: int, seed: int, game: Tensor, turn: Tensor | int, shape: Sequence[int], *, stream: Tensor | int = 0
) -> Tensor:
    """Uniform draws from 0, ..., high - 1: int64 [n, *shape]; other arguments and errors as for `uniform`.

    `high` is in [1, 2^31]. A draw is (word * high) >> 32, whose probabilities differ from 1 / high by less
    than 2^-32 each: a relative bias below high / 2^32.
    """
    high = operator.index(high)
    if not 1 <= high <= 1 << 31:
        raise ValueError(f"high is {high}; it must be in [1, 2^31]")

    def finish(piece: _Piece, result: Tensor) -> None:
        (xp, _, mask, shift), words = piece.library, piece.words
        xp.bitwise_and(words, mask, out=words)
        xp.multiply(words, high, out=words)
        xp.bitwise_right_shift(words, shift, out=_words(result))

    return _draw(torch.int64, finish, seed, game, turn, shape, stream)


def bits(seed: int, game: Tensor, turn: Tensor | int, count: int, *, stream: Tensor | int = 0) -> Tensor:
    """Words of 32 random bits: int64 [n, count] in [0, 2^32); arguments and errors as for `uniform`.

    With b = ceil(count / 4) blocks, word j b + k is word j of the Philox block of counter
    (k, game, turn, stream) under the key (seed mod 2^32, seed >> 32 mod 2^32).
    """

    def finish(piece: _Piece, result: Tensor) -> None:
        piece.library.xp.bitwise_and(piece.words, piece.library.mask, out=_words(result))

    return _draw(torch.int64, finish, seed, game, turn, (count,), stream)


def philox(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int], rounds: int = ROUNDS
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The block function of Philox4x32: four int64 tensors of 32-bit words, all of one shape, to four others.

    `key` holds two words of 32 bits. Raises ValueError for fewer than one round.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; it must be at least 1")
    shape, last = counter[0].shape, 2 if rounds % 2 else 0
    x0, x1, x2, x3 = (counter[i ^ last].reshape(1, -1) for i in range(4))
    scratch = torch.empty(3, 2, 1, x0.numel(), dtype=torch.int64, device=x0.device)
    torch.stack((x0, x2), out=scratch[1])
    odd = _words(x1), _words(x3)
    _rounds(_words(scratch), odd, _schedule(key[0] | key[1] << 32, rounds, x0.device), _library(x0.device))
    even, odd = scratch[1:].bitwise_and_(_WORD)
    return even[0].view(shape), odd[0].view(shape), even[1].view(shape), odd[1].view(shape)


def _draw(
    dtype: torch.dtype,
    finish: _Finish,
    seed: int,
    game: Tensor,
    turn: Tensor | int,
    shape: Sequence[int],
    stream: Tensor | int,
) -> Tensor:
    """Fill [n, *shape] from the words of every row, a piece that fits the cache at a time."""
    if not isinstance(game, Tensor) or game.dtype != torch.int64 or game.ndim != 1:
        raise ValueError(f"game is {_found(game)}; it must be a torch.int64 tensor [n]")
    if min(shape, default=0) < 0:
        raise ValueError(f"shape is {tuple(shape)}; its sizes must not be negative")
    turns, streams = _column("turn", turn, game), _column("stream", stream, game)
    n, count, seed = len(game), math.prod(shape), operator.index(seed) % (1 << 64)
    blocks = -(-count // 4)
    result = torch.empty(n, 2, 2, blocks, dtype=dtype, device=game.device)
    by_word = result.permute(2, 1, 0, 3)
    lanes = max(1, min(n * blocks, _LANES.get(game.device.type, _LANES_ELSEWHERE)))
    memory = torch.empty(6 * lanes, dtype=torch.int64, device=game.device)
    turns = _words(torch.full_like(game, turns)[:, None]) if isinstance(turns, int) else turns
    by_row = (*_rows(seed, _words(game[:, None]), turns), streams)
    by_block = _blocks(seed, torch.arange(blocks, device=game.device)[None], streams)
    piece, size = None, (0, 0)
    for rows, columns in _pieces(n, blocks, lanes):
        before, size = size, (rows.stop - rows.start, columns.stop - columns.start)
        if piece is None or size != before:
            piece = _piece(memory, *size)
        of_rows = [words if isinstance(words, int) else words[rows] for words in by_row]
        _fill(piece, seed, of_rows, [words[:, columns] for words in by_block])
        finish(piece, by_word[:, :, rows, columns])
    return result.view(n, 4 * blocks)[:, :count].reshape(n, *shape)


def _piece(memory: Tensor, n: int, b: int) -> _Piece:
    scratch = memory[: 6 * n * b].view(3, 2, n, b)
    library, words = _library(memory.device), _words(scratch)
    narrow = words[0].view(np.int32).reshape(2, 2, n, b) if library is _NUMPY else None
    floats = scratch[0 if narrow is None else 1].view(torch.float32).view(2, 2, n, b)
    spare = scratch[2, 0].view(torch.float32).view(2, n, b)
    return _Piece(library, words, words[1:], narrow, floats, (floats[0], floats[1]), spare)


def _rows(seed: int, game: _Words, turn: _Words) -> tuple[_Words, _Words, _Words]:
    """The results of two rounds for game and turn: words [n, 1] to xor into lanes 1 and 0, and odd words of
    lane 0.

    The first round multiplies only the block and the turn, and the second only results of the first, so these
    are products per row and per block; the third is the first to multiply every element. Keys are xored into
    the shorter of two words: those of round i in `_keys(seed, i)`, also in `_blocks`.
    """
    (k0, _), (l0, l1), (_, m1) = (_keys(seed, i) for i in range(3))
    product = turn * _MULTIPLIERS[1]
    second = ((product >> 32 ^ game ^ k0) & _WORD) * _MULTIPLIERS[0]
    return product & _WORD ^ l0, second >> 32 ^ l1, second & _WORD ^ m1


def _blocks(seed: int, block: Tensor, stream: _Words) -> tuple[_Words, ...]:
    """The results of two rounds for the block: words [1, b] to xor into lane 0, then what lane 1 needs.

    If the rows share a stream, lane 1 needs words to xor into it and its odd words; if they do not, it needs
    the words that the second round multiplies, to be xored with the stream first.
    """
    (_, k1), _, (m0, _) = (_keys(seed, i) for i in range(3))
    product = _words(block) * _MULTIPLIERS[0]
    first = (product >> 32 ^ k1) & _WORD
    if not isinstance(stream, int):
        return product & _WORD, first
    second = (first ^ stream) * _MULTIPLIERS[1]
    return product & _WORD, second >> 32, second & _WORD ^ m0


def _fill(piece: _Piece, seed: int, by_row: Sequence[_Words], by_block: Sequence[_Words]) -> None:
    """The words of a piece, not masked. `by_row`: of `_rows`, and the streams; `by_block`: of `_blocks`."""
    xp, _, mask, shift = piece.library
    (high, odd), (lane0, lane1), _ = piece.scratch
    into_lane1, into_lane0, odd0, stream = by_row
    xp.bitwise_xor(into_lane0, by_block[0], out=lane0)
    if isinstance(stream, int):
        _, high, odd = by_block
    else:
        xp.bitwise_xor(by_block[1], stream & _WORD, out=odd)
        xp.multiply(odd, _MULTIPLIERS[1], out=odd)
        xp.bitwise_right_shift(odd, shift, out=high)
        xp.bitwise_and(odd, mask, out=odd)
        xp.bitwise_xor(odd, _keys(seed, 2)[0], out=odd)
    xp.bitwise_xor(into_lane1, high, out=lane1)
    _, _, (multipliers, _), *schedule = _schedule(seed, ROUNDS, piece.floats.device)
    _rounds(piece.scratch, (odd0, odd), [(multipliers, None), *schedule], piece.library)


def _rounds(
    scratch: _Words, odd: tuple[_Words, _Words], schedule: Sequence[_Round], library: _Library
) -> None:
    """Rounds on the even words scratch[1] and the odd words `odd`, to scratch[1] and scratch[2], not masked.

    The input words are masked. A round swaps the two lanes. Instead of swapping them back, every second round
    works on lanes in the other order, with its multipliers and keys in that order too; after the last round
    they are in natural order.
    """
    xp, unsigned, mask, shift = library
    other, even, last = scratch
    lane0, lane1 = even
    x0, x1 = odd
    for i, (multipliers, keys) in enumerate(schedule):
        products = last if (len(schedule) - i) % 2 else other
        # Odd words are whole products, whose upper halves enter the even words one round later.
        if i > 1 or not unsigned:
            xp.bitwise_and(even, mask, out=even)
        xp.multiply(even, multipliers, out=products)
        xp.bitwise_right_shift(products, shift, out=even)
        if keys is not None:
            xp.bitwise_xor(even, keys, out=even)
        xp.bitwise_xor(lane0, x1, out=lane0)
        xp.bitwise_xor(lane1, x0, out=lane1)
        x0, x1 = products


def _to_floats(piece: _Piece) -> None:
    """The lower 24 bits of each word to `piece.floats`; on the host through int32, which is faster."""
    if piece.narrow is None:
        piece.floats.copy_(piece.words.bitwise_and_(_GRID - 1))
    else:
        np.copyto(piece.narrow, piece.words, casting="unsafe")
        np.bitwise_and(piece.narrow, _LOW, out=piece.narrow)
        np.copyto(piece.floats.numpy(), piece.narrow, casting="same_kind")


def _library(device: torch.device) -> _Library:
    return _NUMPY if device.type == "cpu" else _TORCH


def _words(words: Tensor) -> _Words:
    """Words of int64 as the library of their device sees them, in the same memory."""
    return words.numpy().view(np.uint64) if _library(words.device).unsigned else words


def _keys(seed: int, i: int) -> tuple[int, int]:
    return (seed + i * _WEYL[0]) & _WORD, ((seed >> 32) + i * _WEYL[1]) & _WORD


@lru_cache(maxsize=256)
def _schedule(seed: int, rounds: int, device: torch.device) -> tuple[_Round, ...]:
    """Multipliers and keys of each round, for lanes in the order that leads to the natural one at the end."""
    steps = []
    for i in range(rounds):
        keys, crossed = _keys(seed, i), (rounds - i) % 2
        steps.append([_MULTIPLIERS[::-1] if crossed else _MULTIPLIERS, keys if crossed else keys[::-1]])
    table = _words(torch.tensor(steps, device=device).view(rounds, 2, 2, 1, 1))
    return tuple((multipliers, keys) for multipliers, keys in table)


def _pieces(n: int, blocks: int, lanes: int) -> Iterator[tuple[slice, slice]]:
    """Rectangles of at most `lanes` elements that cover [n, blocks]."""
    width = max(1, min(blocks, lanes))
    height = lanes // width
    for top in range(0, n, height):
        for left in range(0, blocks, width):
            yield slice(top, min(top + height, n)), slice(left, min(left + width, blocks))


def _column(name: str, words: Tensor | int, game: Tensor) -> _Words:
    """The words of a counter as a plain integer or as [n, 1]; only integers are checked."""
    if not isinstance(words, Tensor):
        words = operator.index(words)
        if not 0 <= words <= _WORD:
            raise ValueError(f"{name} is {words}; it must be in [0, 2^32)")
        return words
    if words.dtype != torch.int64 or words.shape != game.shape or words.device != game.device:
        allowed = f"an integer or torch.int64 [{len(game)}] on {game.device}, one for each row of game"
        raise ValueError(f"{name} is {_found(words)}; it must be {allowed}")
    return _words(words[:, None])


def _found(words: object) -> str:
    if isinstance(words, Tensor):
        return f"{words.dtype} {list(words.shape)} on {words.device}"
    return f"a {type(words).__name__}"
