"""What a run needs beside what a machine has, its figures passed in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from arena.running.room import Machine, check_memory, in_words, remarks
from arena.scenario.errors import ScenarioError


def one(shard: int, batch: int, drawn: int) -> tuple[Any, Any]:
    """A match and its world of images [3,224,224], which take 602,112 bytes each."""

    class World:
        dataset = SimpleNamespace(shape=(3, 224, 224))
        classifier = SimpleNamespace(batch=batch)

        def __len__(self) -> int:
            return drawn

    return SimpleNamespace(where="x.toml: ", settings=SimpleNamespace(shard=shard)), World()


@pytest.mark.parametrize(
    ("shard", "batch", "drawn", "told"),
    [
        (250, 64, 1000, None),
        (1000, 64, 500, None),  # no more than are drawn
        (10_000, 64, 2000, "x.toml: shard: 2,000 images [3, 224, 224] take 1,204.2 MB, more than the memory"),
        (100, 4096, 100, "x.toml: batch: 4,096 images [3, 224, 224] take 2,466.3 MB, more than the memory"),
    ],
)
def test_images_beyond_the_memory_are_an_error(shard: int, batch: int, drawn: int, told: str | None) -> None:
    match, world = one(shard, batch, drawn)
    if told is None:
        check_memory([match], [world], Machine(memory=10**9))
        return
    with pytest.raises(ScenarioError) as caught:
        check_memory([match], [world], Machine(memory=10**9))
    assert str(caught.value).startswith(told) and "of 1,000.0 MB; lower it" in str(caught.value)
    check_memory([match], [world], Machine(memory=None))


def test_a_log_that_may_fill_the_disk_is_a_remark() -> None:
    told = list(remarks(10**9, Machine(memory=None, disk=5 * 10**9)))
    assert len(told) == 1
    assert told[0].startswith("the log takes 64.0 GB at most, and 5,000.0 MB are free on its disk")
    assert not list(remarks(10**6, Machine(memory=None, disk=5 * 10**9)))
    assert not list(remarks(10**12, Machine(memory=None, disk=None)))


def test_this_machine_is_asked(tmp_path: Path) -> None:
    here = Machine.here(torch.device("cpu"), tmp_path / "runs" / "x.db")
    assert here.memory and here.disk
    assert Machine.here(torch.device("cpu")).disk is None


@pytest.mark.parametrize(("size", "words"), [(0, "0.0 MB"), (1_234_567, "1.2 MB"), (10**10, "10.0 GB")])
def test_bytes_in_words(size: int, words: str) -> None:
    assert in_words(size) == words
