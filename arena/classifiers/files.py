"""Checks of untrusted files, before anything interprets them."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from arena.classifiers.errors import ClassifierError
from arena.datasets.folders import find
from arena.inputs.machine import memory
from arena.messages import first_line

_SLACK = 64 * 2**20  # bytes that an archive's text may unpack to besides a few times the file's own size


def find_below(what: str, name: str, folders: Iterable[Path], advice: str) -> Path:
    """The file of this name in the search path: in one of its folders, or in `weights` within one.

    Raises FileNotFoundError that names the places searched and gives `advice` on what to do.
    """
    return find(what, [name, str(Path("weights") / name)], folders, advice)


def check_content(path: Path, what: str) -> None:
    """ClassifierError if `path` is a folder, is empty, is too large for this machine, or holds what a failed
    download leaves behind."""
    if path.is_dir():
        raise ClassifierError(f"{what} {path} is a folder; it must be a file")
    size, room = path.stat().st_size, memory()
    if room is not None and size > room:
        raise ClassifierError(
            f"{what} {path} has {size:,} bytes, more than this machine's memory of {room:,}"
        )
    with path.open("rb") as file:
        head = file.read(512).lstrip().lower()
    if not head and path.stat().st_size == 0:
        raise ClassifierError(f"{what} {path} is empty; get the file again")
    if head.startswith(b"version https://git-lfs"):
        raise ClassifierError(
            f"{what} {path} is only a Git LFS pointer to the file; fetch the file itself (git lfs pull)"
        )
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ClassifierError(
            f"{what} {path} is a web page, not the file; its address answered with a page: get the file again"
        )


@dataclass(frozen=True)
class Archive:
    """The members of a zip archive by name, without the folder that torch puts around them, each whole
    (CRC-32), none twice; `sha` is the SHA-256 of the file that they were read from."""

    members: dict[str, bytes]
    sha: str


def read_archive(path: Path, what: str) -> Archive:
    """Read a zip archive as a whole; nothing in it is interpreted.

    Raises ClassifierError if it is no archive, cut short, damaged, ambiguous, or unpacks to a multiple of
    its size.
    """
    content = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            check_members(archive, len(content), f"{what} {path}")
            members = {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError) as error:
        raise broken(path, what, error) from error
    stripped = {name.partition("/")[2]: data for name, data in members.items() if "/" in name}
    return Archive(stripped, hashlib.sha256(content).hexdigest())


def check_members(archive: zipfile.ZipFile, size: int, what: str) -> None:
    """ClassifierError if an archive of `size` bytes holds a name twice, several top folders, or unpacks to
    far too much; BadZipFile if it is only a piece of an archive."""
    names = [info.filename for info in archive.infolist()]
    if not names or min(info.header_offset for info in archive.infolist()):  # a piece of an archive
        raise zipfile.BadZipFile("its end is missing, or something stands before its beginning")
    if len({name.lower() for name in names}) < len(names):
        raise ClassifierError(f"{what} holds two members of one name, so what is read is not certain")
    if len({name.partition("/")[0] for name in names}) > 1:
        raise ClassifierError(f"{what} is no archive of torch: it holds more than one folder at its top")
    total = sum(info.file_size for info in archive.infolist())
    if total > 4 * size + _SLACK:
        raise ClassifierError(f"{what} would unpack from {size:,} to {total:,} bytes; it is not read")


def broken(path: Path, what: str, error: BaseException) -> ClassifierError:
    """The error for a file whose content is not what its name says."""
    return ClassifierError(f"{what} {path} is cut short, damaged or no such file: {first_line(error)}")
