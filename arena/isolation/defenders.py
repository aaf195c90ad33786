"""Strangers' defenders, each in processes of its own: one prepares it, and one plays it in each shard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from arena.classifiers import Classifier
from arena.isolation.moves import read_value
from arena.isolation.posts import Found, Post, classified_by, form_of, telling_of, written_answer
from arena.isolation.preparations import check_kind, hardened, prepared
from arena.isolation.rows import read_response, read_rows, read_state, written_rows
from arena.isolation.strangers import described, given_by, named, written_in
from arena.isolation.wire import Garbled, Message
from arena.messages import one_line
from arena.players.declared import flaw_of_declared
from arena.players.defender import Defender, Inner, Memory, Rows, Splits
from arena.players.registry import AgentError, Spec, build_defender, build_stack
from arena.players.response import Response
from arena.players.stand_in import StandIn
from arena.rules.limits import USUAL, Limits


@dataclass(frozen=True)
class StrangeDefender(StandIn, Defender):
    """Stands for a defender whose code is not imported here. Its process answers, and keeps its memory;
    what else is in the stack is asked for it, row by row, here.

    Attributes:
        limits: what its process may take.
    """

    limits: Limits = USUAL
    _found: Found | None = field(default=None, compare=False, repr=False)

    @property
    def random(self) -> bool:
        found: bool = self.declared["random"]
        return found

    @property
    def memory(self) -> Memory:
        found: Memory = self.declared["memory"]
        return found

    @property
    def asks(self) -> int:  # type: ignore[override]
        found: int = self.declared["asks"]
        return found

    @property
    def secrets(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(self.declared["secrets"])

    @property
    def acts(self) -> bool:
        found: bool = self.declared["acts"]
        return found

    @property
    def answers_are_facts(self) -> bool:
        found: bool = self.declared["facts"]
        return found

    def has_detector(self) -> bool:
        found: bool = self.declared["detector"]
        return found

    def unsuited(self, shape: tuple[int, ...]) -> str | None:
        if not self.declared["chooses"]:
            return None
        post = Post(self, self.limits, None)  # for this question alone: it is not prepared yet
        answer = post.ask(Message("unsuited", {"shape": list(shape)}), "unsuited")
        with telling_of(self, "unsuited"):
            why = answer.values.get("why", ...)
            if why is not None and not isinstance(why, str):
                raise Garbled("no sentence on the images that it cannot defend")
        return None if why is None else one_line(why)

    def preparing(self, splits: Splits) -> int | None:
        return None if self.declared["hardens"] or self.declared["fits"] else 0

    def facts(self) -> dict[str, Any]:
        return {} if self._found is None else dict(self._found.facts)

    def __copy__(self) -> Self:
        """The same defender without its process: one that plays elsewhere begins another."""
        made = object.__new__(type(self))
        vars(made).update({name: value for name, value in vars(self).items() if name != "_post"})
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_post"}

    @cached_property
    def _post(self) -> Post:
        return Post(self, self.limits, self._found)

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        def asked(message: Message) -> Message:
            return written_answer(inner(*read_rows(message, x.device)))

        request = written_rows("respond", x, rows, self._post.seat(rows))
        answer = self._post.ask(request, "respond", {"inner": asked})
        with telling_of(self, "respond"):
            response: Response = read_response(answer, x.device)
        return response

    def start(self, shape: tuple[int, int, int, int], accounts: int, device: torch.device) -> Any:
        if self.memory == "none":
            return None
        memory = self._post.memory()
        told = {"shape": list(shape), "accounts": accounts, "memory": memory.number}
        self._post.ask(Message("start", told), "start")
        return memory

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        request = written_rows("remember", x, rows, self._post.seat(rows))
        told = written_answer(response)
        names = {"response": told.values["response"]}
        tensors = [*request.tensors, *told.tensors]
        self._post.ask(Message("remember", {**request.values, **names}, tensors), "remember")

    def forget(self, memory: Any, games: Tensor) -> None:
        self._post.ask(Message("forget", {"memory": memory.number}, [games]), "forget")

    def detector(self, x: Tensor, classifier: Classifier) -> Tensor:
        request = Message("detector", {"classifier": form_of(classifier)}, [x])
        answer = self._post.ask(request, "detector", {"classify": classified_by(classifier)})
        with telling_of(self, "detector"):
            tensors = [tensor.to(x.device) for tensor in answer.tensors]
            found: Tensor = read_value(answer.values.get("scores"), tensors, x.device)
        return found


class PreparingStranger(StrangeDefender):
    """The same of a defender that fits itself to the classifier."""

    def fit(self, classifier: Classifier, splits: Splits) -> Self:
        answer = prepared(self, self.limits, "fit", classifier, splits)
        with telling_of(self, "fit"):
            check_kind(answer, "fitted", "Defender")
            state = read_state(answer, classifier.device)
            declared = _declared({**answer.values["declared"], "parameters": self.parameters})
            facts = dict(answer.values["found"])
        return replace(self, told=json.dumps(declared), _found=Found(state, classifier, facts))

    def state(self) -> dict[str, Any]:
        return {} if self._found is None else {**self._found.state, _FACTS: self.facts(), _TOLD: self.told}

    def restore(self, state: Mapping[str, Any], classifier: Classifier) -> Self:
        own = dict(state)
        facts, told = own.pop(_FACTS, {}), own.pop(_TOLD, self.told)
        return replace(self, told=told, _found=Found(own, classifier, facts))


class HardeningStranger(StrangeDefender):
    """The same of a defender that puts another classifier in place of the given one."""

    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        return hardened(self, self.limits, classifier, splits)


class HardeningAndPreparingStranger(PreparingStranger):
    """The same of a defender that does both."""

    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        return hardened(self, self.limits, classifier, splits)


_FACTS, _TOLD = "the arena's: facts", "the arena's: declared"
_KINDS: dict[tuple[bool, bool], type[StrangeDefender]] = {
    (False, False): StrangeDefender,
    (False, True): PreparingStranger,
    (True, False): HardeningStranger,
    (True, True): HardeningAndPreparingStranger,
}


def stack_of(spec: Any, limits: Limits) -> tuple[Defender, ...]:
    """The stack of defenders that `spec` describes, in which others stand for those that are strange."""
    return build_stack(spec, lambda one: defender_of(one, limits))


def defender_of(spec: Spec, limits: Limits) -> Defender:
    """The defender that `spec` describes, or, where it does not come with the arena, what stands for it.

    One that was given as an object, not by name, is imported already.

    Raises:
        AgentError: if there is none, or it cannot be built.
    """
    told = named(spec)
    if told is None or not any(strange for _, strange in written_in(told, "defender")):
        return build_defender(spec)
    name, modules = told["name"], tuple(sorted({module for module, _ in written_in(told, "defender")}))
    try:
        declared = _declared(described("defender", told, modules))
    except Garbled as error:
        raise AgentError(f'defender "{name}" cannot be described: its process sent {error}') from None
    if declared["rebuilds"]:
        raise AgentError(
            f'defender "{name}" overrides rebuild; in a process of its own, a defender may harden the '
            f"classifier in its parameters and buffers alone"
        )
    declared["parameters"] = {**declared["parameters"], **given_by(told)}
    kind = _KINDS[declared["hardens"], declared["fits"]]
    stranger = kind(name, json.dumps(told), json.dumps(declared), modules, limits)
    if (flaw := flaw_of_declared(stranger)) is not None:
        raise AgentError(f'defender "{name}": {flaw}')
    return stranger


_BOOLS = ("random", "acts", "detector", "facts", "hardens", "fits", "rebuilds", "chooses")
_OTHERS = {"memory": str, "asks": int, "secrets": list, "parameters": dict, "inside": list}


def _declared(found: Any) -> dict[str, Any]:
    """What a defender's process says of it, if it has the right form. Raises Garbled."""
    forms = {**dict.fromkeys(_BOOLS, bool), **_OTHERS}
    if not isinstance(found, dict) or set(found) != {*forms}:
        raise Garbled("no description of a defender")
    for name, form in forms.items():
        if type(found[name]) is not form:
            raise Garbled(f"a description whose {name} is none")
    return {**found, "inside": []}
