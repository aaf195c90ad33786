"""What makes two matches the same (docs/design.md, D7)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch

from arena.classifiers.building import packages_of
from arena.classifiers.devices import arithmetic_of
from arena.players import Attacker, Defender
from arena.players.stand_in import StandIn
from arena.provenance import source_closure, versions
from arena.records.pieces import LogLevel
from arena.scenario.matches import Match
from arena.scenario.reference_networks import without_weights

PLAYED_BY = ("arena.game.shard",)
"""What plays a shard: its source, and that of all it imports, is part of every match."""
ISOLATED_BY = ("arena.isolation.attackers", "arena.isolation.inmates", "arena.isolation.nursery")
"""The same of matches whose agents play in processes of their own."""


def match_identity(
    match: Match,
    *,
    dataset_sha: str,
    classifier_sha: str,
    prepared_sha: str,
    device: torch.device,
    batch: int,
    max_rows: int,
    forward: Sequence[str],
    threads: int,
    level: LogLevel,
    surrogate_shas: Sequence[str] = (),
) -> dict[str, Any]:
    """All that decides what is played and recorded in a match, as JSON values.

    Titles, blocks, radii, verdicts that head a table and evaluations on clean images are not in it: they say
    how a match is shown, or stand beside it. The log level is, though it changes no result: a match that was
    logged at level `games` has no rows for a run that wants `queries`. So is a monitor: without
    one a match has no `margin_base` for a run that wants it, and with one it is not shown as another's.

    Args:
        prepared_sha: of the prepared defenders.
        max_rows: the longest volley of an attacker.
        forward: how the classifier's forward pass was prepared, step by step.
        threads: of a forward pass of `batch` rows.
        surrogate_shas: of the reference networks that the threat grants, in its order.
    """
    apart = ISOLATED_BY if match.settings.isolation == "process" else ()
    code = source_closure([*modules_of(match), *PLAYED_BY, *apart])
    packages = packages_of(networks_of(match))
    return {
        **without_places(match.describe()),
        "dataset_sha": dataset_sha,
        "classifier_sha": classifier_sha,
        **({"surrogate_shas": list(surrogate_shas)} if surrogate_shas else {}),
        "prepared_sha": prepared_sha,
        "versions": versions(*packages) | dict(code.distributions),
        "code": code.sha,
        "device": device.type,
        "arithmetic": arithmetic_of(device),
        "batch": batch,
        "max_rows": max_rows,
        "forward": list(forward),
        "threads": threads,
        "level": level,
    }


def places(match: Match) -> dict[str, Any]:
    """Where a match's data and weights lie, as its scenario says: what its identity leaves out."""
    world, named = match.world, match.threat.resources.surrogates
    path = world.dataset.path
    return {
        "path": None if path is None else str(path),
        "weights": world.classifier.weights,
        **({"surrogates": [one.table.get("weights") for one in named]} if named else {}),
    }


def without_places(described: dict[str, Any]) -> dict[str, Any]:
    """A match without the paths of its data and weights: their SHAs tell what lies there."""
    world, threat = described["world"], described["threat"]
    dataset = {key: value for key, value in world["dataset"].items() if key != "path"}
    classifier = without_weights(world["classifier"])
    owned = dict(threat["resources"])
    if "surrogates" in owned:
        owned["surrogates"] = [without_weights(one) for one in owned["surrogates"]]
    return {
        **described,
        "world": {**world, "dataset": dataset, "classifier": classifier},
        "threat": {**threat, "resources": owned},
    }


def networks_of(match: Match) -> list[str]:
    """The networks of a match by name: that of its classifier, and its attacker's reference networks."""
    return [match.world.classifier.network, *(one.network for one in match.threat.resources.surrogates)]


def modules_of(match: Match) -> set[str]:
    """The modules in which a match's agents, those inside them, and its networks' factories are written."""
    named = (network.partition(":") for network in networks_of(match))
    return modules_of_agents(match.attacker, *match.defenders) | {top for top, colon, _ in named if colon}


def modules_of_agents(*agents: Attacker | Defender) -> set[str]:
    """The modules in which agents, and those inside them, are written."""
    modules: set[str] = set()
    waiting: list[Any] = [*agents]
    while waiting:
        agent = waiting.pop()
        if isinstance(agent, StandIn):
            modules |= {*agent.modules}
            continue
        modules.add(type(agent).__module__)
        for value in vars(agent).values():
            inside = value if isinstance(value, tuple | list) else (value,)
            waiting += [v for v in inside if isinstance(v, Attacker | Defender)]
    return modules


def fingerprint(values: Any) -> str:
    """SHA-256 of JSON values."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
