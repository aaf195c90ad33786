"""A training's state on disk, so that it can continue after a kill.

The file is a line of text, the SHA-256 of the rest, and what `torch.save` makes of tensors, numbers, texts,
lists and dicts; it is read with `weights_only=True`, so that an untrusted file runs nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from arena.inputs.places import ODD, kind_of
from arena.training.errors import Unusable
from arena.training.files import part_of, write_whole

FORMAT = b"arena checkpoint 1\n"
ADVICE = "--fresh starts over"


class Checkpoint:
    """The file in which one training's state is kept.

    Attributes:
        path: the file.
        identity: which training it is, as JSON values: only a state of the same identity is loaded.
        every: seconds between two checkpoints.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], every: float = 60.0) -> None:
        self.path, self.identity, self.every = path, dict(identity), every
        self._written = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last checkpoint, or attempt at one, is so old that the next is due."""
        return time.monotonic() - self._written >= self.every

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the file by this state. Raises OSError if it cannot; the old file then stays."""
        payload = io.BytesIO()
        torch.save({"identity": json.dumps(self.identity), "state": dict(state)}, payload)
        content = payload.getvalue()
        digest = hashlib.sha256(content).hexdigest().encode()
        try:
            write_whole(self.path, FORMAT + digest + b"\n" + content)
        finally:
            self._written = time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """The state, its tensors on the host, or None if there is no file.

        Raises Unusable if the file is damaged, no checkpoint or another training's.
        """
        if (kind := kind_of(self.path)) == "nothing":
            return None
        if kind == "other":
            raise self.unusable(f"it {ODD}")
        found = self._unpacked(self._payload())
        try:
            theirs, state = json.loads(found["identity"]), found["state"]
            differing = {key for key in self.identity if theirs.get(key) != self.identity[key]}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self.unusable("its content is none that a training writes") from error
        if differing:
            key = next(key for key in self.identity if key in differing)
            difference = f"{key} {_short(theirs.get(key), self.identity[key])}"
            raise Unusable(f"checkpoint {self.path} is of another training, with {difference}; {ADVICE}")
        if not isinstance(state, dict):
            raise self.unusable("its content is none that a training writes")
        return state

    def unusable(self, why: str) -> Unusable:
        """The error for a file from which training cannot continue."""
        return Unusable(f"checkpoint {self.path} cannot be used: {why}; {ADVICE}")

    def remove(self) -> None:
        """Remove the file, if there is one, and any part of one that a kill left."""
        self.path.unlink(missing_ok=True)
        part_of(self.path).unlink(missing_ok=True)

    def _payload(self) -> bytes:
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise self.unusable(error.strerror or str(error)) from error
        start, digest, payload = content[: len(FORMAT)], *content[len(FORMAT) :].partition(b"\n")[::2]
        if start != FORMAT:
            raise self.unusable("it is none of arena train's")
        if hashlib.sha256(payload).hexdigest().encode() != digest:
            raise self.unusable("it is cut short or was changed")
        return payload

    def _unpacked(self, payload: bytes) -> Any:
        try:
            return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        except Exception as error:  # an untrusted file: any exception may come
            raise self.unusable("it holds other things than tensors, numbers and texts") from error


def _short(theirs: Any, ours: Any) -> str:
    """Two values of one key, only the differing entries of dicts."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        keys = [key for key in {**ours, **theirs} if theirs.get(key) != ours.get(key)]
        theirs, ours = ({key: which.get(key) for key in keys} for which in (theirs, ours))
    return f"{json.dumps(theirs)}, not {json.dumps(ours)}"
