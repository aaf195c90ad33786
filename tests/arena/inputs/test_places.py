"""What lies at a path is known before it is opened."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from arena.inputs.places import ODD, expanded, file_name, kind_of, unwritable


def test_files_and_folders_are_told_from_what_would_block(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "lost").symlink_to("nowhere")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(tmp_path / "socket"))
    kinds = {path.name: kind_of(path) for path in tmp_path.iterdir()}
    odd = dict.fromkeys(("circle", "zeros", "pipe", "socket"), "other")
    assert kinds == {"file": "file", "link": "file", "lost": "nothing", **odd}
    assert kind_of(tmp_path) == "folder"
    assert unwritable(tmp_path / "pipe") == ODD and unwritable(tmp_path / "file") is None


@pytest.mark.parametrize("name", ["x" * 5000, "x/" * 3000, "a\0b", "file/below"])
def test_a_name_that_no_file_has_is_one_of_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    assert kind_of(tmp_path / name) == "nothing"


@pytest.mark.parametrize("name", ["x" * 250, "ä" * 125, "x/" * 3000 + "y"])
def test_a_name_too_long_is_not_written(tmp_path: Path, name: str) -> None:
    assert unwritable(tmp_path / name) == "has a name longer than files may have"


def test_a_home_that_is_not_there_is_a_name_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expanded("~/x") == Path("/home/me/x")
    assert expanded("~nobody-here/x") == Path("~nobody-here/x")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("quickstart-1.0", "quickstart-1.0"),
        ("../../etc/passwd", "_._.._etc_passwd"),
        ("\x1b[31mred", "__31mred"),
        ("", "_"),
        ("x" * 300, "x" * 100),
    ],
)
def test_a_text_becomes_part_of_a_files_name(text: str, name: str) -> None:
    assert file_name(text) == name and Path(name).name == name
