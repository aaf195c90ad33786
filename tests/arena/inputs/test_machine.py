"""What the machine has is asked from the system."""

from __future__ import annotations

from pathlib import Path

import pytest

from arena.inputs import machine


def test_memory_is_the_machines_or_the_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "_LIMITS", (str(limits), str(tmp_path / "absent")))
    whole = machine.memory()
    assert whole is not None and whole > 2**28
    for text, found in (("max\n", whole), ("1048576\n", 2**20), ("9" * 25, whole)):
        limits.write_text(text)
        assert machine.memory() == found


def test_the_free_disk_is_that_of_the_next_folder_that_is_there(tmp_path: Path) -> None:
    free = machine.free_disk(tmp_path / "not" / "yet" / "x.db")
    assert free is not None and free > 0
