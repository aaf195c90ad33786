"""What this machine has."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory() -> int | None:
    """Bytes that a process can have at most: the machine's, or those of the container it runs in; None where
    nobody says."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    return min([whole, *filter(None, map(_limit, _LIMITS))])


def free_disk(path: Path) -> int | None:
    """Bytes free on the disk of a file that may not be there yet, nor its folder; None where nobody says."""
    for folder in path.absolute().parents:
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            continue
    return None


def _limit(file: str) -> int | None:
    try:
        text = Path(file).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return int(text) if text.isdigit() else None
