"""What a run needs beside what the machine has, compared before it begins."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from arena.inputs.machine import free_disk, memory
from arena.scenario.errors import ScenarioError
from arena.scenario.loaded_worlds import LoadedWorld
from arena.scenario.matches import Match

BYTES_PER_ROW = 64
"""Bytes per query in a SQLite log, index included (measured with `make bench`)."""
PIXEL = 4
"""Bytes of a float32."""


@dataclass(frozen=True)
class Machine:
    """What a machine has, in bytes; None where nobody says.

    Attributes:
        memory: of the device that plays: a GPU's own, else what a process can have.
        disk: free on the disk of the log; None for a database elsewhere.
    """

    memory: int | None
    disk: int | None = None

    @classmethod
    def here(cls, device: torch.device, log: Path | None = None) -> Machine:
        """This machine, playing on `device` into a log at this path."""
        own = memory()
        if device.type == "cuda":
            own = torch.cuda.get_device_properties(device).total_memory
        return cls(own, None if log is None else free_disk(log))


def check_memory(matches: Sequence[Match], worlds: Sequence[LoadedWorld], machine: Machine) -> None:
    """ScenarioError for a match whose shard or batch cannot fit: its images alone are larger than the
    memory."""
    if machine.memory is None:
        return
    for match, world in zip(matches, worlds, strict=True):
        image = PIXEL * math.prod(world.dataset.shape)
        counts = {"shard": min(match.settings.shard, len(world)), "batch": world.classifier.batch}
        for key, count in counts.items():
            if count * image > machine.memory:
                raise ScenarioError(
                    f"{match.where}{key}: {count:,} images {list(world.dataset.shape)} take "
                    f"{in_words(count * image)}, more than the memory of {in_words(machine.memory)}; lower it"
                )


def remarks(rows: int, machine: Machine) -> Iterator[str]:
    """What a user should know of a log of so many rows at most."""
    size = rows * BYTES_PER_ROW
    if machine.disk is not None and size > machine.disk:
        yield (
            f"the log takes {in_words(size)} at most, and {in_words(machine.disk)} are free on its disk: if "
            f"it fills up the run stops, and goes on once there is room"
        )


def in_words(size: int) -> str:
    """Bytes in MB, or in GB from 10 of them on."""
    return f"{size / 1e9:,.1f} GB" if size >= 10**10 else f"{size / 1e6:,.1f} MB"
