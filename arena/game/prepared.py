"""Prepared stacks of defenders on disk: written once, and read back as they were, to the bit (docs/design.md,
D4).

A file is in the safetensors format, so that reading one runs nothing. It holds the tensors of each defender's
`state()` and of each network that a defender hardened; its header says the rest as JSON, in which, as Python
writes it, floats may be infinite or NaN. It is named by the SHA-256 of its content.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from arena.classifiers import Classifier
from arena.classifiers.fingerprints import fingerprint
from arena.game.blame import DefenderError, blaming, class_of, is_unwritten
from arena.game.preparing import Lent, overrides
from arena.game.stack import Stack
from arena.players.defender import Defender
from arena.players.parameters import parameters
from arena.players.stand_in import StandIn
from arena.training.files import write_whole

_HEADER = "arena prepared stack 1"
_SHA = re.compile("[0-9a-f]{64}")


class PreparedError(ValueError):
    """A prepared stack that cannot be written or read back: one sentence."""


class PreparedStore:
    """A folder of prepared stacks: each in a file SHA.safetensors; and for each key, in a file named by the
    SHA-256 of the key, the SHA of the stack that it stands for. No whole file ever changes, so that several
    processes may use the folder at once.

    A key is a text of the caller's that tells what went into preparing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: str) -> str | None:
        """The SHA of the stack that is kept under `key`, None if there is none."""
        try:
            sha = self._pointer(key).read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            return None
        return sha if self.holds(sha) else None

    def keep(self, key: str, stack: Stack) -> str:
        """Write `stack`, unless another is kept under `key`: the first one stays.

        Returns:
            The SHA of what is kept: that of another process's stack, if that was the first. Play with what
            `load` gives.

        Raises:
            PreparedError: if the stack cannot be written.
            OSError: if the disk is full or the folder cannot be written.
        """
        if (sha := self.find(key)) is not None:
            return sha
        content = written(stack)
        sha = hashlib.sha256(content).hexdigest()
        with self._new(content) as new:
            new.replace(self._path(sha))
        with self._new(f"{sha}\n".encode()) as new:
            try:
                os.link(new, self._pointer(key))
            except OSError:  # there is one, or the file system has no hard links
                if (other := self.find(key)) is not None:
                    return other
                new.replace(self._pointer(key))
        return sha

    def load(self, sha: str, classifier: Classifier, defenders: Sequence[Defender]) -> Stack:
        """The stack of that SHA.

        Args:
            classifier: the undefended one.
            defenders: those of the stack, not prepared.

        Raises:
            PreparedError: if there is none, its file is damaged, or it is one of other defenders or another
                classifier.
        """
        if not _SHA.fullmatch(sha):
            raise PreparedError(f"a prepared stack's name is 64 hexadecimal digits; found {sha!r}")
        path = self._path(sha)
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise PreparedError(f"there is no prepared stack {sha} in {self.folder}") from error
        except OSError as error:
            raise PreparedError(f"prepared stack {path} cannot be read: {error.strerror or error}") from error
        if hashlib.sha256(content).hexdigest() != sha:
            raise PreparedError(
                f"prepared stack {path} is cut short or was changed: its content is not that of its name; "
                f"delete the file to prepare anew"
            )
        return read(content, classifier, defenders)

    def holds(self, sha: str) -> bool:
        """Whether the stack of that SHA is here."""
        return bool(_SHA.fullmatch(sha)) and self._path(sha).exists()

    def content(self, sha: str) -> bytes:
        """The file of a stack that is here, to be taken in elsewhere."""
        return self._path(sha).read_bytes()

    def take_in(self, content: bytes) -> None:
        """Keep a stack by the file that another store has of it.

        Raises:
            OSError: if the disk is full or the folder cannot be written.
        """
        with self._new(content) as new:
            new.replace(self._path(hashlib.sha256(content).hexdigest()))

    def _path(self, sha: str) -> Path:
        return self.folder / f"{sha}.safetensors"

    def _pointer(self, key: str) -> Path:
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()}.key"

    @contextmanager
    def _new(self, content: bytes) -> Iterator[Path]:
        """A whole file under a name that no other process uses, to be renamed or linked."""
        path = self.folder / f"{uuid.uuid4().hex}.new"
        write_whole(path, content)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def prepared_sha(stack: Stack) -> str:
    """The SHA-256 under which a store keeps `stack`. Raises PreparedError as `written` does."""
    return hashlib.sha256(written(stack)).hexdigest()


def written(stack: Stack) -> bytes:
    """`stack` as a file holds it; the same bytes for the same stack.

    Raises:
        DefenderError: if a defender does not say what it found.
        PreparedError: if it says it in other things than tensors and JSON values.
    """
    hardened = stack.hardened or (None,) * len(stack.defenders)
    tensors: dict[str, Tensor] = {}
    told = [
        {"defender": _identity(unprepared), **_told(place, defender, network, tensors)}
        for place, (unprepared, defender, network) in enumerate(
            zip(stack.unprepared or stack.defenders, stack.defenders, hardened, strict=True)
        )
    ]
    header: dict[str, Any] = {"base": stack.base.sha, "defenders": told}
    try:
        header["strides"] = _strides(tensors)
        plain = {name: torch.empty(t.shape, dtype=t.dtype).copy_(t) for name, t in tensors.items()}
        return safetensors.torch.save(plain, {_HEADER: json.dumps(header)})
    except Exception as error:  # a sparse tensor, a kind of number that the format has not: whatever it says
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise PreparedError(f"the tensors of a prepared stack cannot be written: {said}") from error


def read(content: bytes, classifier: Classifier, defenders: Sequence[Defender]) -> Stack:
    """The stack of which `written` made `content`; arguments as for `PreparedStore.load`.

    Raises:
        PreparedError: if `content` is none of `written`, or one of other defenders or another classifier.
    """
    header, tensors = _parsed(content)
    told = header["defenders"]
    found, wanted = ([_identity(one) for one in defenders], [one["defender"] for one in told])
    if found != wanted:
        raise PreparedError(
            f"the prepared stack is one of {_listed(wanted)}; found {_listed(found)} (a name and a digest of "
            f"the parameters each)"
        )
    tensors = {name: tensor.to(classifier.device) for name, tensor in tensors.items()}
    hardened: list[Classifier | None] = [None] * len(told)
    for place in reversed(range(len(told))):
        if (network := told[place]["hardened"]) is not None:
            own = _below(tensors, f"{place} hardened ")
            lent = Lent(classifier)
            classifier = hardened[place] = _rebuilt(defenders[place], lent, own, network)
    if classifier.sha != header["base"]:
        raise PreparedError(
            f"the prepared stack is one around another classifier than {classifier.name!r}, of SHA "
            f"{header['base'][:12]}; found {classifier.sha[:12]}"
        )
    restored, lent = [], Lent(classifier)
    for place, defender in enumerate(defenders):
        state = {**told[place]["state"], **_below(tensors, f"{place} state ")}
        with _blaming(defender, "restore"):
            given = lent.copy if overrides(defender, "restore") else classifier
            restored.append(defender.restore(state, given))
        if type(restored[-1]) is not type(defender):
            kinds = class_of(defender), type(restored[-1]).__name__
            raise DefenderError(f"{kinds[0]}.restore must return a {kinds[0]}; found {kinds[1]}")
    return Stack(classifier, tuple(restored), tuple(hardened), tuple(defenders))


def _told(
    place: int, defender: Defender, hardened: Classifier | None, tensors: dict[str, Tensor]
) -> dict[str, Any]:
    """What the header says of the defender at a place of the stack; its tensors join `tensors`."""
    name = class_of(defender)
    with _blaming(defender, "state"):
        state = defender.state()
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise PreparedError(f"{name}.state must return a dict whose keys are names; found {state!r}")
    plain = {}
    for key, value in state.items():
        if isinstance(value, Tensor):
            tensors[f"{place} state {key}"] = value.detach()
        else:
            _check_plain(value, f"{name}.state()[{key!r}]")
            plain[key] = value
    network = None
    if hardened is not None:
        tensors.update({f"{place} hardened {key}": value for key, value in hardened.tensors().items()})
        network = {
            "class": type(hardened).__qualname__,
            "module": fingerprint(hardened.module),
            "settings": hardened.settings(),
        }
    return {"state": plain, "hardened": network}


def _strides(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The strides of those tensors that do not lie in memory row by row; kernels, and so bits, go by them."""
    own = {name: torch.empty_like(t).stride() for name, t in tensors.items()}  # none if it overlaps
    return {name: own[name] for name, t in tensors.items() if own[name] != torch.empty(t.shape).stride()}


def _check_plain(value: object, where: str) -> None:
    """Raise PreparedError unless JSON gives `value` back as it is."""
    if isinstance(value, list):
        for place, one in enumerate(value):
            _check_plain(one, f"{where}[{place}]")
    elif isinstance(value, dict):
        for key, one in value.items():
            if not isinstance(key, str):
                raise PreparedError(f"the keys of {where} must be texts; found {key!r}")
            _check_plain(one, f"{where}[{key!r}]")
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise PreparedError(
            f"{where} must be a tensor or a JSON value (None, bool, int, float, str, list or dict); found "
            f"{type(value).__name__}"
        )


def _identity(defender: Defender) -> list[str]:
    """The name of a defender's class, and a digest of its parameters, which may be secrets."""
    given: dict[str, Any] = parameters(defender) if is_dataclass(defender) else {}
    text = json.dumps(given, sort_keys=True, default=lambda value: type(value).__qualname__)
    kind = type(defender)
    name = f"{kind.__module__}:{kind.__qualname__}"
    return [
        class_of(defender) if isinstance(defender, StandIn) else name,
        hashlib.sha256(text.encode()).hexdigest(),
    ]


def _listed(identities: Sequence[Sequence[str]]) -> str:
    return ", ".join(f"{name} {digest[:8]}" for name, digest in identities) or "no defenders"


def _parsed(content: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the tensors of a file, as they were in memory."""
    try:
        size = int.from_bytes(content[:8], "little")
        header = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][_HEADER])
        tensors = safetensors.torch.load(content)
        for name, strides in header["strides"].items():
            plain = tensors[name]
            tensors[name] = torch.empty_strided(plain.shape, strides, dtype=plain.dtype).copy_(plain)
    except Exception as error:  # of a stranger's making: anything may come
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise PreparedError(f"this is no prepared stack that this version wrote: {said}") from error
    return header, tensors


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _rebuilt(
    defender: Defender, lent: Lent, tensors: dict[str, Tensor], told: Mapping[str, Any]
) -> Classifier:
    """The classifier that `defender` hardened the lent one into."""
    name = class_of(defender)
    with _blaming(defender, "rebuild"):
        rebuilt = defender.rebuild(lent.copy if overrides(defender, "rebuild") else lent.own, tensors)
    if type(rebuilt).__qualname__ != told["class"] or fingerprint(rebuilt.module) != told["module"]:
        raise PreparedError(
            f"what {name}.rebuild makes of {lent.own.name!r} is not the classifier that its harden made; "
            f"where harden changes more than parameters and buffers, {name} must override rebuild"
        )
    try:
        return rebuilt.with_settings(told["settings"])
    except ValueError as error:
        raise PreparedError(f"the classifier that {name} hardened cannot run here: {error}") from error


@contextmanager
def _blaming(defender: Defender, method: str) -> Iterator[None]:
    """Errors of a defender's method as DefenderError; one that is not written says itself what is missing."""
    try:
        with blaming(defender, method, is_unwritten):
            yield
    except NotImplementedError as error:
        raise DefenderError(str(error)) from error
