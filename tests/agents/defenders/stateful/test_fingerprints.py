from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
import torch

from agents.defenders.stateful import fingerprints as module
from agents.defenders.stateful.fingerprints import (
    FingerprintIndex,
    Windows,
    _distinct,
    _largest,
    fingerprints,
    windows,
)

NO_ANSWERS = torch.zeros(0, 2)


def add(index: FingerprintIndex, prints: torch.Tensor) -> None:
    index.add(prints, torch.zeros(len(prints), 2), torch.zeros(len(prints), dtype=torch.bool))


def by_hand(x: torch.Tensor, cut: Windows) -> list[tuple[int, ...]]:
    """The distinct windows of one image, as the published code makes them."""
    levels = (x.flatten().numpy() * np.float32(255) + cut.salt) % np.float32(255)
    values = (np.around(levels / np.float32(cut.q), 0) * cut.q).astype(int).tolist()
    count = int((len(values) - cut.w + 1) / cut.p)
    return list(dict.fromkeys(tuple(values[k * cut.p : k * cut.p + cut.w]) for k in range(count)))


@pytest.mark.parametrize(
    ("shape", "w", "p", "count"),
    [
        ((3, 32, 32), 20, 1, 3053),
        ((1, 28, 28), 50, 1, 735),
        ((3, 224, 224), 50, 25, 6019),
        ((1, 8, 8), 8, 3, 19),
    ],
)
def test_the_number_of_windows(shape: tuple[int, ...], w: int, p: int, count: int) -> None:
    assert windows(int(np.prod(shape)), w, p, 50, 50, 0, True).count == count


@pytest.mark.parametrize("salted", [True, False])
@pytest.mark.parametrize("p", [1, 3])
def test_two_images_share_as_many_hashes_as_windows(salted: bool, p: int) -> None:
    """With s above the number of windows nothing is left to the order of hashes."""
    cut = windows(3 * 6 * 6, 4, p, 50, 1000, 5, salted)
    x = torch.rand(6, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    x[1], x[2] = x[0], x[0]
    x[2, 0, 2, 3] = 1 - x[2, 0, 2, 3]
    x[3] = (x[0] + 0.02).clamp(0, 1)
    x[4] = 0.3
    prints = fingerprints(x, cut).numpy().view(np.uint64)
    sets = [set(row[row != 0].tolist()) for row in prints]
    wins = [set(by_hand(image, cut)) for image in x]
    for i in range(6):
        assert len(sets[i]) == len(wins[i])
        for j in range(6):
            assert len(sets[i] & sets[j]) == len(wins[i] & wins[j])
    assert (len(sets[4]) > 10) == salted, "an image of one colour has one window without salt"


def test_a_fingerprint_holds_the_largest_distinct_hashes() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(1, 40, (50, 300)).astype(np.uint64)  # many alike: fewer than s distinct
    hashes[10:] = rng.integers(1, 2**63, (40, 300)).astype(np.uint64)
    hashes[20:, 1::2] = hashes[20:, ::2]
    hashes[30] = 7
    for row, found in zip(hashes, _largest(hashes.copy(), 45), strict=True):
        expected = sorted(set(row.tolist()), reverse=True)[:45]
        assert found.tolist() == expected + [0] * (45 - len(expected))
    assert (_distinct(hashes, 45) == _largest(hashes, 45)).all()


def test_hashes_are_the_same_in_all_processes_and_others_under_another_seed() -> None:
    x = torch.linspace(0, 1, 192).view(1, 3, 8, 8)
    prints = fingerprints(x, windows(192, 8, 1, 50, 50, 0, True))
    assert hashlib.sha256(prints.numpy().tobytes()).hexdigest()[:16] == "8afe6be85a950731"
    other = fingerprints(x, windows(192, 8, 1, 50, 50, 1, True))
    assert not set(prints[0].tolist()) & set(other[0].tolist())


def test_the_index_finds_what_a_search_through_all_finds() -> None:
    """Against counting in a plain list, with runs that merge and queries that are forgotten."""
    rng = np.random.default_rng(1)
    index = FingerprintIndex(capacity=37, threshold=4)
    kept: list[tuple[int, set[int]]] = []
    for _ in range(60):
        rows = int(rng.integers(1, 6))
        prints = np.array([rng.permutation(np.arange(1, 60))[:8] for _ in range(rows)]).astype(np.uint64)
        prints = np.sort(prints, axis=1)[:, ::-1].copy()
        prints[prints < 6] = 0
        asked = torch.from_numpy(np.sort(prints, axis=1)[:, ::-1].copy().view(np.int64))
        shared, number = index.closest(asked)
        alarm, again = index.find(asked)
        for row, most, which in zip(asked.tolist(), shared.tolist(), number.tolist(), strict=True):
            votes = Counter({n: len(set(row) & hashes) for n, hashes in kept if set(row) & hashes})
            best = max(votes.values(), default=0)
            assert most == best
            assert which == min((n for n, v in votes.items() if v == best), default=-1)
        assert alarm.equal(shared >= 4)
        assert again.equal(number)
        start = index.count
        add(index, asked)
        kept += [(start + k, set(row) - {0}) for k, row in enumerate(asked.tolist())]
        kept = kept[-37:]
    assert sum(len(run.hashes) for run in index.runs) <= 3 * 37 * 8


def test_of_many_holders_of_a_hash_the_last_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CROWD", 3)
    index = FingerprintIndex(capacity=100, threshold=2)
    for k in range(10):
        add(index, torch.tensor([[1000 + k, 7, 5]]))
    assert [t.tolist() for t in index.closest(torch.tensor([[7, 5, 1]]))] == [[2], [7]]
    assert [t.tolist() for t in index.closest(torch.tensor([[1002, 7, 5]]))] == [[2], [7]]


def test_nothing_matches_nothing() -> None:
    index = FingerprintIndex(capacity=10, threshold=1)
    add(index, torch.zeros(1, 5, dtype=torch.int64))
    shared, number = index.closest(torch.zeros(1, 5, dtype=torch.int64))
    assert (shared.tolist(), number.tolist()) == ([0], [-1])
    assert not index.runs
