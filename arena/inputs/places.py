"""What lies at a path, asked before it is opened: opening a pipe would wait for ever."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import Literal

Kind = Literal["file", "folder", "other", "nothing"]
LONGEST_NAME = 240
"""Bytes of a file's name, with room for what is written beside it under the same name and an ending."""
LONGEST_PATH = 4000
ODD = "is neither a file nor a folder, but a pipe, a device or a circle of links"


def kind_of(path: Path) -> Kind:
    """What lies at `path`, links followed. `other`: a pipe, a socket, a device, a circle of links; `nothing`:
    also under a name that no file can have.

    Raises:
        PermissionError: if a folder on the way may not be entered.
    """
    try:
        mode = path.stat().st_mode
    except PermissionError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null byte
        return "other" if isinstance(error, OSError) and error.errno == errno.ELOOP else "nothing"
    if stat.S_ISREG(mode):
        return "file"
    return "folder" if stat.S_ISDIR(mode) else "other"


def unwritable(path: Path) -> str | None:
    """Why no file can be written at `path`, as the end of a sentence; None where nothing is known against
    it."""
    if (kind := kind_of(path)) in ("other", "folder"):
        return ODD if kind == "other" else "is a folder"
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts) or len(str(path)) > LONGEST_PATH:
        return "has a name longer than files may have"
    above = next((folder for folder in path.absolute().parents if kind_of(folder) != "nothing"), None)
    if above is not None and kind_of(above) != "folder":
        return f"cannot be written: {above} is no folder"
    return None


def file_name(text: str) -> str:
    """A text of unknown origin as part of a file's name: letters, digits, . _ + and -, not first a dot."""
    return re.sub(r"[^\w.+-]|^\.", "_", text)[:100] or "_"


def expanded(path: str | Path) -> Path:
    """The path with the user's home for ~; as it is where there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
