"""Blacklight's fingerprints of images, and an index that finds the most similar remembered one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from agents.defenders.stateful.history import Index
from arena import draws

Words: TypeAlias = npt.NDArray[np.uint64]
Numbers: TypeAlias = npt.NDArray[np.int64]

NOTHING = np.uint64(0)
"""Fills up fingerprints of images with too few distinct windows; it matches nothing."""
CROWD = 100
"""Of the queries that hold the same hash, only so many of the last are looked at: as many as an attack asks
around one point, say, all hold."""
_WINDOWS = 2**21
"""The most windows in memory at a time."""


@dataclass(frozen=True)
class Windows:
    """How an image is cut: windows of `w` values every `p` values, values in steps of `q` of 255 levels.

    `s` hashes are kept; `salt` [L] and `weight` [w] are secret.
    """

    w: int
    p: int
    q: int
    s: int
    salt: npt.NDArray[np.float32]
    weight: Words

    @property
    def count(self) -> int:
        """int((L - w + 1) / p), as in the published code."""
        return (len(self.salt) - self.w + 1) // self.p


@lru_cache(maxsize=16)
def windows(length: int, w: int, p: int, q: int, s: int, seed: int, salted: bool) -> Windows:
    """The windows of images of `length` values, with the secrets of a seed."""
    place = torch.arange(length)
    salt = draws.integers(255, draws.derive(seed, "salt"), place, 0, ()) if salted else place * 0
    high, low = draws.bits(draws.derive(seed, "windows"), torch.arange(w), 0, 2).numpy().astype(np.uint64).T
    return Windows(w, p, q, s, salt.float().numpy(), high << np.uint64(32) | low)


def fingerprints(x: Tensor, cut: Windows) -> Tensor:
    """[n,s] int64 on the host: the `s` largest distinct hashes of each image's windows, as unsigned words,
    largest first; 0 where there are fewer.

    A window's hash is sum_j weight_j v_j modulo 2^64 of its values v, then mixed by a bijection.
    """
    rows = max(1, _WINDOWS // cut.count)
    pieces = [_largest(_hashes(piece, cut), cut.s) for piece in torch.split(x, rows)]
    return torch.from_numpy(np.concatenate(pieces).view(np.int64))


def _hashes(x: Tensor, cut: Windows) -> Words:
    """[n,windows] in any order."""
    salted = x.flatten(1).cpu().numpy() * np.float32(255) + cut.salt
    salted -= np.float32(255) * (salted >= 255)
    values = np.rint(salted / np.float32(cut.q)).astype(np.uint64)
    return _mixed(sliding_window_view(values, cut.w, axis=1)[:, : cut.count * cut.p : cut.p] @ cut.weight)


def _mixed(words: Words) -> Words:
    """A bijection of 64-bit words after which their order looks random: the finaliser of SplitMix64 (Steele,
    Lea and Flood, OOPSLA 2014). In place."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words ^= words >> np.uint64(shift)
        words *= np.uint64(factor)
    words ^= words >> np.uint64(31)
    return words


def _largest(hashes: Words, s: int) -> Words:
    """[n,s] the largest distinct ones of each row, descending, filled up with NOTHING."""
    count = hashes.shape[1]
    most = min(count, 2 * s)
    kept = _distinct(np.partition(hashes, count - most, axis=1)[:, count - most :], s)
    if most < count and (few := kept[:, -1] == NOTHING).any():
        kept[few] = _distinct(hashes[few], s)
    return kept


def _distinct(hashes: Words, s: int) -> Words:
    ordered = np.sort(hashes, axis=1)[:, ::-1]
    new = np.ones(ordered.shape, dtype=bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    rank = new.cumsum(axis=1)
    row, column = (new & (rank <= s)).nonzero()
    kept = np.full((len(hashes), s), NOTHING)
    kept[row, rank[row, column] - 1] = ordered[row, column]
    return kept


def _most_frequent(numbers: Numbers) -> tuple[int, int]:
    """How often the most frequent of some numbers occurs, and which it is, the lowest of several."""
    if len(numbers) > 1000:  # where a table of all between them is cheaper than sorting them
        first = int(numbers.min())
        counts = np.bincount(numbers - first)
        return int(counts.max()), first + int(counts.argmax())
    which, counts = np.unique(numbers, return_counts=True)
    return int(counts.max()), int(which[counts.argmax()])


@dataclass(eq=False)
class Run:
    """Hashes [m] in ascending order with the numbers [m] of the queries that hold them, ascending among equal
    ones."""

    hashes: Words
    numbers: Numbers


class FingerprintIndex(Index):
    """An inverted index from hashes to the numbers of the last `capacity` queries that hold them.

    The hashes lie in sorted runs whose sizes fall by half or more, the oldest first: new ones are a run, and
    one that is not twice as long as the next is merged with it (a log-structured merge tree; O'Neil et al.,
    1996). So a query is found in some log2(capacity) binary searches, and inserted in as many merges, each a
    few nanoseconds a hash, spread unevenly. A hash takes 16 bytes; up to about twice `capacity` queries are
    held, since those that are forgotten leave when their run is next merged.

    Args:
        threshold: how many hashes have to be shared for a match.
    """

    def __init__(self, capacity: int, threshold: int) -> None:
        super().__init__(capacity)
        self.capacity, self.threshold, self.count = capacity, threshold, 0
        self.runs: list[Run] = []

    def find(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Matches, and the query with the most shared hashes, the oldest of several."""
        shared, number = self.closest(features)
        return shared >= self.threshold, number

    def closest(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """How many hashes are shared at most [n], and with which query [n], the oldest of several, or -1."""
        shared, number = np.zeros(len(features), np.int64), np.full(len(features), -1)
        row, holder = self._holders(features.numpy().view(np.uint64))
        ends = np.searchsorted(row, np.arange(len(features) + 1))
        for i, (begin, end) in enumerate(pairwise(ends.tolist())):
            if end > begin:
                shared[i], number[i] = _most_frequent(holder[begin:end])
        return torch.from_numpy(shared), torch.from_numpy(number)

    def _holders(self, prints: Words) -> tuple[Numbers, Numbers]:
        """For each shared hash: the row that asks for it, ascending, and the query that holds it."""
        asked = prints[:, ::-1].ravel()  # ascending in each row, which is searched for faster
        room = np.where(asked == NOTHING, 0, CROWD)
        oldest = self.count - self.capacity
        rows, numbers = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for run in reversed(self.runs):
            begin = np.searchsorted(run.hashes, asked)
            hit = ((run.hashes.take(begin, mode="clip") == asked) & (room > 0)).nonzero()[0]
            if not len(hit):
                continue
            end = np.searchsorted(run.hashes, asked[hit], side="right")
            size = np.minimum(end - begin[hit], room[hit])
            room[hit] -= size
            within = np.arange(size.sum()) - np.repeat(size.cumsum() - size, size)
            found = run.numbers[np.repeat(end - size, size) + within]
            live = found >= oldest
            rows.append(np.repeat(hit // prints.shape[1], size)[live])
            numbers.append(found[live])
        row, number = np.concatenate(rows), np.concatenate(numbers)
        order = row.argsort(kind="stable")
        return row[order], number[order]

    def add(self, features: Tensor, answers: Tensor, flagged: Tensor) -> None:
        """Remember fingerprints, in order."""
        self.answers.add(answers)
        prints = features.numpy().view(np.uint64)
        hashes = prints.ravel()
        numbers = self.count + np.arange(len(hashes)) // prints.shape[1]
        held = hashes != NOTHING
        self.count += len(prints)
        if held.any():
            self.runs.append(self._run(hashes[held], numbers[held]))
        while len(self.runs) > 1 and len(self.runs[-2].hashes) < 2 * len(self.runs[-1].hashes):
            last, before = self.runs.pop(), self.runs.pop()
            self.runs.append(
                self._run(
                    np.concatenate([before.hashes, last.hashes]),
                    np.concatenate([before.numbers, last.numbers]),
                )
            )

    def _run(self, hashes: Words, numbers: Numbers) -> Run:
        live = numbers >= self.count - self.capacity
        if not live.all():
            hashes, numbers = hashes[live], numbers[live]
        order = hashes.argsort(kind="stable")
        return Run(hashes[order], numbers[order])
