"""Matches made again from what a log says of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from typing import Any

from arena.isolation.defenders import stack_of
from arena.isolation.strangers import attacker_of
from arena.log.answers import LoggedMatch, LoggedRun
from arena.log.schema import to_json
from arena.messages import UserError
from arena.players.registry import AgentError, Kind, build_attacker, build_stack
from arena.rules.limits import Limits
from arena.rules.threat import Threat
from arena.scenario.blocks import Block, World
from arena.scenario.identity import without_places
from arena.scenario.matches import Match
from arena.scenario.seeds import PUBLIC, Seeds

_CROSSED = ("worlds", "threats", "attackers", "defenders", "at", "title")
_NO_JSON = {"inf": float("inf"), "-inf": float("-inf"), "nan": float("nan")}
"""Numbers that the log holds as texts (`arena.log.schema.to_json`)."""


class ReplayError(UserError):
    """What a log holds cannot be played again here: one sentence on what is missing."""


def described(run: LoggedRun, match: LoggedMatch) -> Mapping[str, Any]:
    """What a run says of one of its matches: everything that decides how it is played, as JSON values.

    Raises:
        ReplayError: if it does not say enough to play it again.
    """
    found = run.info.resolved.get("matches")
    number = match.info.number
    known = found[number] if isinstance(found, list) and number < len(found) else None
    if not isinstance(known, dict) or not {"world", "attacker", "seed", "limits", "code"} <= known.keys():
        raise ReplayError(
            f"match {match.id} was not played from a scenario, so that the log does not say all that it "
            f"takes to play it again (run {run.id}: {run.info.scenario})"
        )
    return known


def rebuild(
    said: Mapping[str, Any], match: LoggedMatch, known: Sequence[Match] = (), seeds: Seeds = PUBLIC
) -> Match:
    """The match that a log describes, with the batch size with which it was played.

    Args:
        said: as `described` gives it.
        known: matches of a scenario file, one of which is taken if it is the same: for agents that cannot be
            found by what the log says, and for where data and weights lie.
        seeds: those of a secret, for a match that was played with one.

    Raises:
        ReplayError: if an agent is not installed here, or is another here than there.
    """
    own = _seeds(said, match, seeds)
    found = next((one for one in known if is_described(replace(one, seeds=own), said)), None)
    if found is None:
        found = replace(_made(said, match), seeds=own)
        if not is_described(found, said):
            raise ReplayError(
                f"match {match.id}, {match.info.attacker_title} against {match.info.defender_title}, cannot "
                f"be made again: agents of these names have other parameters here than in the log"
            )
    settings = found.settings.model_copy(update={"batch": said["batch"]})
    return replace(found, settings=settings, where=f"match {match.id}: ", seeds=own)


def _seeds(said: Mapping[str, Any], match: LoggedMatch, seeds: Seeds) -> Seeds:
    """Those that a match was played with: public ones, or those of a secret, which must be the one."""
    wanted = said.get("secret")
    if wanted is None:
        return PUBLIC
    if seeds.secret is None:
        raise ReplayError(
            f"match {match.id} was played with a secret seed: once that is published, "
            f"--secret-seed names its file"
        )
    if seeds.commitment != wanted:
        raise ReplayError(f"match {match.id} was played with another secret seed than the one given")
    return seeds


def is_described(match: Match, said: Mapping[str, Any]) -> bool:
    """Whether a match is the one that a log describes, wherever its data and weights lie; whether it was
    played with a secret is another question where `match` has none."""
    return not differing(match, said)


def differing(match: Match, said: Mapping[str, Any]) -> list[str]:
    """In what a match is not the one that a log describes, which says of a monitor only if there is one."""
    own: dict[str, Any] = as_logged(without_places(match.describe()))
    odd = [key for key in own if key not in said or own[key] != said[key]]
    return [*odd, *["margin_base"] * ("margin_base" in said and "margin_base" not in own)]


def as_logged(values: Any) -> Any:
    """JSON values as a log gives them back."""
    return json.loads(to_json(values))


def _made(said: Mapping[str, Any], match: LoggedMatch) -> Match:
    info = match.info
    apart = said.get("isolation") == "process"
    try:
        outer = {**said["attacker"], "name": said["attacker"]["name"].partition("(")[0]}  # of "eot(square)"
        stack = [_spec("defender", one) for one in said["defenders"]]
        limits = Limits.model_validate(said["limits"])
        attacker = (attacker_of if apart else build_attacker)(_spec("attacker", outer))
        defenders = stack_of(stack, limits) if apart else build_stack(stack)
        world, threat = World.model_validate(_placed(said)), Threat(**_threat(said))
        own = {key: said[key] for key in Block.model_fields if key in said and key not in _CROSSED}
        settings = Block(
            worlds=(world,), threats=(threat,), attackers=(attacker,), defenders=(defenders,), **own
        )
    except (AgentError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReplayError(f"match {match.id} cannot be made again: {error}") from error
    return Match(
        info.number,
        info.block,
        world,
        threat,
        attacker,
        defenders,
        tuple(said["at"]),
        settings,
        "",
        info.title,
    )


def _placed(said: Mapping[str, Any]) -> dict[str, Any]:
    """The world with the paths of its data and weights, where the log knows them."""
    world, places = said["world"], said.get("places", {})
    dataset, classifier = dict(world["dataset"]), dict(world["classifier"])
    for table, key in ((dataset, "path"), (classifier, "weights")):
        if places.get(key) is not None:
            table[key] = places[key]
    return {"dataset": dataset, "classifier": classifier}


def _threat(said: Mapping[str, Any]) -> dict[str, Any]:
    """The threat, its reference networks with the paths of their weights, where the log knows them."""
    threat, weights = said["threat"], said.get("places", {}).get("surrogates", ())
    owned = dict(threat["resources"])
    if "surrogates" in owned and len(weights) == len(owned["surrogates"]):
        owned["surrogates"] = [
            one if path is None else {**one, "weights": path}
            for one, path in zip(owned["surrogates"], weights, strict=True)
        ]
    return {**threat, "resources": owned}


def _spec(kind: Kind, told: Any) -> Any:
    """A table that makes an agent, from its parameters as the log keeps them."""
    if isinstance(told, str):
        return _NO_JSON.get(told, told)
    if isinstance(told, list):
        return [_spec(kind, one) for one in told]
    if not isinstance(told, dict):
        return told
    table = {key: _spec(kind, value) for key, value in told.items() if key != "agent"}
    return {**table, "name": _registered(kind, told["agent"])} if "agent" in told else table


def _registered(kind: Kind, name: str) -> str:
    """The registered name of an agent inside another, which the log knows by its class alone."""
    found = [entry.name for entry in entry_points(group=f"arena.{kind}s") if entry.attr == name]
    if len(set(found)) != 1:
        raise AgentError(
            f"{len(set(found))} registered {kind}s are of a class {name}; a scenario file tells which"
        )
    return found[0]
