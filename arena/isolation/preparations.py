"""The process in which a stranger's defender is prepared, as the arena holds it."""

from __future__ import annotations

import json
import pickle
from typing import Any

import torch
from torch import Tensor

from arena.classifiers import Classifier
from arena.game.blame import DefenderError, Told
from arena.game.preparing import PARTS, MissingPart
from arena.isolation.children import Child
from arena.isolation.posts import conversed, telling_of
from arena.isolation.rows import ROOM, read_state
from arena.isolation.wire import Garbled, Message
from arena.messages import in_short
from arena.players.defender import Splits
from arena.players.stand_in import StandIn
from arena.rules.limits import Limits

PREPARING = 3600.0
"""Seconds that a defender may take to be prepared between two things that it asks for."""


def prepared(
    defender: StandIn, limits: Limits, method: str, classifier: Classifier, splits: Splits
) -> Message:
    """What a defender's own process makes of a copy of the classifier and the parts of the data.

    Raises:
        DefenderError: if it fails.
        MissingPart: if it asks for a part that there is not.
    """
    parts = {}
    missing = {}
    for name in PARTS:
        try:
            parts[name] = getattr(splits, name)
        except MissingPart as error:
            missing[name] = str(error)
    told: dict[str, Any] = {"parts": list(parts), "missing": missing}
    source: Any = next(iter(parts.values())).source if parts else None
    if parts:
        told |= {"shape": list(source.shape), "dtype": str(source.dtype).removeprefix("torch.")}

    def images(message: Message) -> Message:
        (index,) = message.tensors
        if index.dtype != torch.int64 or (len(index) and not _within(index, images_there)):
            raise Garbled("numbers of images that are none")
        return Message("images", {}, [source[index]])

    images_there = int(source.shape[0]) if parts else 0
    tensors = [_content(defender, method, classifier)]
    for part in parts.values():
        tensors += [part.index, part.labels]
    values = {"spec": json.loads(defender.spec), "method": method, "splits": told}
    modules = {*defender.modules, *_modules_of(classifier)}
    doing = f"{defender.name}.{method}"
    with telling_of(defender, method), Child(sorted(modules), limits) as child:
        child.wire.room = ROOM
        message = Message("prepare", values, tensors)
        answer = conversed(child, message, doing, {"images": images}, PREPARING)
    if answer.kind == "missing":
        raise MissingPart(missing.get(PARTS[0]) or missing.get(PARTS[1]) or "a part is missing")
    return answer


def hardened(defender: StandIn, limits: Limits, classifier: Classifier, splits: Splits) -> Classifier:
    answer = prepared(defender, limits, "harden", classifier, splits)
    if answer.kind == "as it was":
        return classifier
    if answer.kind == "another network":
        raise DefenderError(
            f"{defender.name}.harden made another network of the classifier; in a process of its own, a "
            f"defender may change its parameters and buffers alone"
        )
    with telling_of(defender, "harden"):
        check_kind(answer, "hardened", "Classifier")
        tensors = read_state(answer, classifier.device)
        try:
            return classifier.with_tensors(tensors)
        except (ValueError, AttributeError) as error:
            raise Told(in_short(error)) from error


def _content(defender: StandIn, method: str, classifier: Classifier) -> Tensor:
    """A copy of the classifier for a process, on the CPU."""
    try:
        own = classifier
        if classifier.device.type != "cpu":
            own = classifier.copied()
            own.module, own.device = own.module.to("cpu"), torch.device("cpu")
        return torch.frombuffer(bytearray(pickle.dumps(own)), dtype=torch.uint8)
    except Exception as error:  # a user's function, an ONNX session: whatever their parts say
        raise DefenderError(
            f"{defender.name}.{method} needs a copy of the classifier in a process of its own, and "
            f"{classifier.name!r} cannot be sent to one: {in_short(error)}"
        ) from error


def _modules_of(classifier: Classifier) -> set[str]:
    """The modules that a network is written in, but for torch's own and the arena's."""
    found = {type(layer).__module__ for layer in classifier.module.modules()}
    return {name for name in found if name.partition(".")[0] not in ("torch", "arena")}


def _within(index: Tensor, count: int) -> bool:
    return int(index.min()) >= 0 and int(index.max()) < count


def check_kind(answer: Message, kind: str, wanted: str) -> None:
    if answer.kind == "other":
        raise Told(f"it must return a {wanted}; found {answer.values.get('name')!s:.100}")
    if answer.kind != kind:
        raise Garbled(f"another message than what it was asked for ({answer.kind!r:.40})")
