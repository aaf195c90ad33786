"""What an agent needs or is, and a scenario that plays it."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from arena.players import Attacker, Defender, Needs
from arena.players.catalogue import REMEMBERS
from arena.players.registry import (
    AgentError,
    Kind,
    agent_class,
    build_attacker,
    build_defender,
    missing_parameter,
    names,
    parameters_of,
)
from arena.rules.threat import GrantedResources, Threat

BUDGET = 200
_FEEDBACK = {
    "label": "labels are enough",
    "scores": "scores: logits, probabilities or topk:K",
    "logits": "logits",
}
_STARTS = {"never": "no", "targeted": "where the goal is targeted", "always": "yes"}


def example_of(kind: Kind, name: str) -> tuple[Attacker | Defender, dict[str, Any]] | None:
    """An agent with default parameters, around plain ones where it needs agents inside, and what a scenario
    says to make it; None if it needs more than agents."""
    found = agent_class(kind, name)
    build: Any = build_attacker if kind == "attacker" else build_defender
    for inside in _insides(found):
        try:
            return build({"name": name, **inside}), {"name": name, **inside}
        except AgentError:
            continue
    return None


def needs_of(needs: Needs) -> dict[str, str]:
    """What an attacker needs, in words, by the fields of `Needs`."""
    words = {
        "feedback": _FEEDBACK.get(needs.feedback, needs.feedback),
        "images": f"{needs.images} of its own" if needs.images else "none of its own",
        "starts": _STARTS.get(needs.starts, needs.starts),
        "surrogates": f"{needs.surrogates} to differentiate through" if needs.surrogates else "none",
        "prefix": "yes: one run is reported at every query count"
        if needs.prefix
        else "no: it plays once for each query count that is reported",
    }
    return {f.name: words.get(f.name) or _listed(getattr(needs, f.name)) for f in fields(needs)}


def traits_of(defender: Defender) -> dict[str, str]:
    """What a defender is, in words."""
    kind = type(defender)
    own = {f.name for f in fields(defender)}  # type: ignore[arg-type]
    secrets = [name for name in defender.secrets if name in own]
    prepares = [name for name in ("harden", "fit") if getattr(kind, name) is not getattr(Defender, name)]
    return {
        "random": "yes: another draw may answer the same image differently" if defender.random else "no",
        "memory": REMEMBERS.get(defender.memory, defender.memory),
        "secrets": f"{', '.join(secrets)} (hidden from every attacker)" if secrets else "none",
        "detector": 'yes: knowledge "detector" lets an attacker evaluate it'
        if defender.has_detector()
        else "no",
        "prepares": f"yes: {' and '.join(prepares)}, once a run" if prepares else "no",
    }


def scenario_of(kind: Kind, name: str) -> str:
    """A scenario in TOML that plays an agent, "" if none could be found."""
    found = example_of(kind, name)
    if found is None:
        return ""
    agent, table = found
    attackers: list[Any]
    defenders: list[Any]
    if isinstance(agent, Attacker):
        attackers, defenders = [table], ["none"]
        if agent.needs.knowledge == "detector":
            defenders = [_with_detector()]
    else:
        plain = next((n for n in _plainest() if build_attacker(n).needs.feedback == "scores"), None)
        attackers, defenders = [plain or next(_plainest())], ["none", table]
    player = build_attacker(attackers[0])
    return "\n".join(
        (
            f"attackers = {_toml(list(map(_short, attackers)))}",
            f"defenders = {_toml(list(map(_short, defenders)))}",
            f"threat = {_toml(_threat(player.needs))}\n",
        )
    )


def _threat(needs: Needs) -> dict[str, Any]:
    """The rules of a short game that an attacker with these needs can play."""

    def chosen(key: str, allowed: tuple[str, ...], first: str) -> str:
        return first if first in allowed else allowed[0]

    scores = needs.feedback != "label"
    objective = chosen("objective", needs.objectives, "first" if scores else "minimum")
    threat: dict[str, Any] = {
        "norm": chosen("norm", needs.norms, "linf"),
        "epsilon": "inf" if objective == "minimum" else 0.15,
        "budget": BUDGET,
        "feedback": "logits" if scores else "label",
        "goal": chosen("goal", needs.goals, "untargeted"),
        "objective": objective,
    }
    if needs.knowledge != "none":
        threat["knowledge"] = needs.knowledge
    resources: dict[str, Any] = {"images": needs.images} if needs.images else {}
    if needs.needs_starts(threat["goal"] == "targeted"):
        resources["starts"] = True
    if needs.surrogates:
        resources["surrogates"] = ["digits-cnn"] * needs.surrogates
    if resources:
        threat["resources"] = resources
    default = {**Threat.model_fields, **GrantedResources.model_fields}
    return {
        key: value
        for key, value in threat.items()
        if default[key].default != value or key in ("norm", "objective")
    }


def _insides(found: type) -> Iterator[dict[str, Any]]:
    """Agents for the required parameters of a class, from the plainest on; nothing if it needs more."""
    hints = typing.get_type_hints(found)
    required = [p.name for p in parameters_of(found) if p.default == "required"]
    if not required:
        yield {}
        return
    for inner in _plainest():
        inside: dict[str, Any] = {}
        for key in required:
            if hints[key] is Attacker:
                inside[key] = {"name": inner}
            elif hints[key] is Defender:
                inside[key] = {"name": "none"}
        if len(inside) == len(required):
            yield inside


def _plainest() -> Iterator[str]:
    """The registered attackers that need nothing but answers and adapt to no defense, scores before labels,
    those with few parameters first."""
    found = []
    for name in names("attacker"):
        try:
            if missing_parameter("attacker", name) is not None:
                continue
            attacker = build_attacker(name)
        except AgentError:
            continue
        needs = attacker.needs
        owned = needs.images or needs.surrogates or needs.starts == "always"
        plain = attacker.twin is None and not attacker.across_games
        if needs.knowledge == "none" and not owned and needs.prefix and plain:
            count = len(parameters_of(type(attacker)))
            found.append((needs.feedback == "label", count, name))
    yield from (name for *_, name in sorted(found))


def _with_detector() -> str:
    for name in names("defender"):
        try:
            if missing_parameter("defender", name) is None and build_defender(name).has_detector():
                return name
        except AgentError:
            continue
    return "none"


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _short(spec: Any) -> Any:
    return spec["name"] if isinstance(spec, Mapping) and set(spec) == {"name"} else spec


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {_toml(_short(item))}' for key, item in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)
