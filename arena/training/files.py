"""Files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path`, or leave what was there: written beside it, flushed to the disk, renamed.

    Raises OSError where the disk is full or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = part_of(path)
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _settle(path.parent)


def part_of(path: Path) -> Path:
    """Where a file is written before it is whole; a kill may leave it there."""
    return path.with_name(f"{path.name}.part")


def _settle(folder: Path) -> None:
    """Make a renaming last through a power cut, where the system has that."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
