from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from arena.training import Checkpoint, TrainingError
from arena.training import files as files_module
from arena.training.checkpoint import FORMAT

IDENTITY = {"network": "n", "recipe": {"rate": 0.1, "epochs": 2}, "seed": 0}


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoint:
    checkpoint = Checkpoint(tmp_path / "folder" / "w.checkpoint", IDENTITY)
    checkpoint.write({"step": 3, "weights": torch.arange(1000.0)})
    return checkpoint


def signed(payload: bytes) -> bytes:
    return FORMAT + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def test_what_is_written_is_read(kept: Checkpoint) -> None:
    state = kept.read()
    assert state is not None
    assert state["step"] == 3 and torch.equal(state["weights"], torch.arange(1000.0))
    assert [path.name for path in kept.path.parent.iterdir()] == ["w.checkpoint"]
    kept.remove()
    assert kept.read() is None
    kept.remove()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, "with seed 0, not 1; --fresh starts over"),
        ({"network": "m"}, 'with network "n", not "m"'),
        ({"recipe": {"rate": 0.2, "epochs": 2}}, 'with recipe {"rate": 0.1}, not {"rate": 0.2}'),
    ],
)
def test_another_trainings_is_refused(kept: Checkpoint, change: dict[str, Any], said: str) -> None:
    with pytest.raises(TrainingError, match="is of another training") as caught:
        Checkpoint(kept.path, IDENTITY | change).read()
    assert said in str(caught.value)


@pytest.mark.parametrize("length", [0, 5, 30, 90, 500, -1])
def test_a_file_cut_short_is_refused(kept: Checkpoint, length: int) -> None:
    kept.path.write_bytes(kept.path.read_bytes()[:length])
    with pytest.raises(TrainingError, match=r"cannot be used: it is .*; --fresh starts over"):
        kept.read()


def test_a_changed_bit_is_found(kept: Checkpoint) -> None:
    content = bytearray(kept.path.read_bytes())
    content[len(content) // 2] ^= 1
    kept.path.write_bytes(bytes(content))
    with pytest.raises(TrainingError, match="cut short or was changed"):
        kept.read()


class Malice:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.mark),))


def test_nothing_of_a_strangers_file_is_run(kept: Checkpoint, tmp_path: Path) -> None:
    mark = tmp_path / "run"
    for payload in (saved(Malice(mark)), pickle.dumps(Malice(mark), 2), b"", b"PK\x03\x04"):
        kept.path.write_bytes(signed(payload))
        with pytest.raises(TrainingError, match="other things than tensors, numbers and texts"):
            kept.read()
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        3,
        {},
        {"identity": 3, "state": {}},
        {"identity": "[]", "state": {}},
        {"identity": "{", "state": {}},
        {"identity": '{"network": "n", "recipe": {"rate": 0.1, "epochs": 2}, "seed": 0}', "state": 5},
    ],
)
def test_other_content_is_refused(kept: Checkpoint, content: Any) -> None:
    kept.path.write_bytes(signed(saved(content)))
    with pytest.raises(TrainingError, match="its content is none that a training writes"):
        kept.read()


def test_a_folder_in_its_place_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be used: Is a directory"):
        Checkpoint(tmp_path, IDENTITY).read()


def test_the_old_file_survives_a_full_disk(kept: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    before = kept.path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files_module.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        kept.write({"step": 4})
    assert kept.path.read_bytes() == before
    assert [path.name for path in kept.path.parent.iterdir()] == ["w.checkpoint"]


def test_it_is_due_after_its_seconds(tmp_path: Path) -> None:
    assert Checkpoint(tmp_path / "c", IDENTITY, every=0).due
    assert not Checkpoint(tmp_path / "c", IDENTITY, every=1000).due
