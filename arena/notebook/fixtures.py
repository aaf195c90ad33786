"""The matches of a call: each attacker against each stack of defenders, checked before any is played."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arena.datasets.own_arrays import read_labels
from arena.game.blame import DefenderError
from arena.game.openings import Openings, check_resources, draw_targets
from arena.game.stack import Stack, facts_of, prepare
from arena.notebook.ground import Ground, is_whole
from arena.notebook.image_sets import image_set
from arena.players import Attacker, Defender
from arena.players.attacker import runs_of
from arena.players.catalogue import described
from arena.players.parameters import parameters
from arena.players.registry import name_of
from arena.players.roles import roles
from arena.records.runs import MatchInfo
from arena.rules.geometry import quantise
from arena.rules.threat import NamedNetwork, Threat, parse_threat


@dataclass(frozen=True)
class Entrant:
    """An attacker, or the defenders of a stack, and what tables call it."""

    title: str
    agents: tuple[Attacker | Defender, ...]


@dataclass(frozen=True, eq=False)
class Fixture:
    """A match to be played.

    Attributes:
        openings: all games.
        originals: [G,C,H,W] the clean images as the service gets them.
        last: whether it is the one with the attacker's largest budget.
        failed: how the defenders failed as they were prepared; None: they did not.
    """

    info: MatchInfo
    attacker: Attacker
    stack: Stack
    openings: Openings
    originals: NDArray[np.float32]
    last: bool
    failed: str | None = None


def fixtures(
    on: Ground,
    attackers: Sequence[Entrant],
    stacks: Sequence[Entrant],
    threat: Threat | Mapping[str, Any],
    at: Sequence[int],
    targets: Any,
    fingerprint: str,
) -> list[Fixture]:
    """All matches, attacker by attacker; each stack is prepared once.

    Args:
        fingerprint: of the call; each match's own begins with it.

    Raises:
        ValueError: if an attacker cannot play the threat or a stack, or `at` or `targets` do not fit.
        DefenderError: if there is one stack, and it cannot be prepared; of several the others are played.
    """
    rules = _granting(parse_threat(threat), on)
    _check_at(at, rules)
    players = [agent for entrant in attackers for agent in entrant.agents if isinstance(agent, Attacker)]
    for player in players:
        _check(player, rules, stacks)
    if (rules.resources.images or rules.resources.starts) and on.pool.split is None:
        raise ValueError("the threat's resources grant the attacker images: pass resources=(images, labels)")
    check_resources(rules, on.pool)
    goal = draw_targets(rules, on.label, on.key, on.base.classes, on.seed)
    openings = Openings(on.x, on.label, on.key, goal if targets is None else _targets(targets, rules, on))
    prepared = [_prepared(on, entrant, alone=len(stacks) == 1) for entrant in stacks]
    if any(player.needs.knowledge == "weights" for player in players):
        for stack, *_ in prepared:
            stack.base.require_gradients()
    originals = quantise(on.x, rules.quantisation).cpu().numpy()
    common = _common(on, originals, fingerprint)
    found: list[Fixture] = []
    for entrant, player in zip(attackers, players, strict=True):
        try:
            runs = runs_of(player, rules, [int(count) for count in at])
        except ValueError as error:
            raise ValueError(f"attacker {name_of(player)}: {error}") from error
        for side, (stack, facts, failed) in zip(stacks, prepared, strict=True):
            for own, counts in runs:
                info = MatchInfo(
                    number=len(found),
                    attacker=name_of(player),
                    attacker_params=_json(parameters(player)),
                    attacker_title=entrant.title,
                    threat=own,
                    at=counts,
                    title="" if len(runs) == 1 else f"{own.budget:,} queries",
                    **_sides(player, side, stack, facts),
                    **common,
                )
                last = own is runs[-1][0]
                found.append(Fixture(info, player, stack, openings, originals, last, failed))
    return found


def _prepared(on: Ground, entrant: Entrant, *, alone: bool) -> tuple[Stack, list[dict[str, Any]], str | None]:
    """The stack of an entrant, what its defenders found, and how they failed: then it is the unprepared one,
    for its names."""
    defenders = _defenders(entrant)
    try:
        stack = prepare(on.base, defenders, on.data)
        return stack, [{"name": name_of(d), **facts_of(d)} for d in stack.defenders], None
    except DefenderError as error:
        if alone:
            raise
        return Stack(on.base, tuple(defenders)), [], str(error)


def _check(player: Attacker, rules: Threat, stacks: Sequence[Entrant]) -> None:
    if (unmet := player.needs.unmet(rules)) is not None:
        raise ValueError(f"attacker {name_of(player)} cannot play this threat: {unmet}")
    for side in stacks:
        if (unmet := player.needs.unmet_by(_defenders(side))) is not None:
            which = "this defense" if len(stacks) == 1 else side.title
            raise ValueError(f"attacker {name_of(player)} cannot play {which}: {unmet}")


def _granting(rules: Threat, on: Ground) -> Threat:
    """The rules with the reference networks of the call, told by name and SHA."""
    if rules.resources.surrogates:
        raise ValueError(
            "a call grants reference networks as they are: pass surrogates=[...], and leave "
            "resources.surrogates out of the threat"
        )
    named = [{"network": one.name, "sha": one.sha} for one in on.surrogates]
    return rules.with_surrogates(map(NamedNetwork.model_validate, named))


def _check_at(at: Sequence[int], rules: Threat) -> None:
    if isinstance(at, str | bytes) or not hasattr(at, "__iter__"):
        raise ValueError(f"at must be a list of query counts, such as [10, 100]; found {at!r}")
    for count in at:
        if not (is_whole(count) and 1 <= count <= rules.budget):
            raise ValueError(f"at must be whole numbers from 1 to the budget {rules.budget}; found {count!r}")


def _targets(targets: Any, rules: Threat, on: Ground) -> Tensor:
    """The caller's own target labels, checked."""
    if not rules.targeted:
        raise ValueError(f'targets were given, but the goal is "{rules.goal}"')
    goal = read_labels(targets, len(on.label), "targets").to(on.label.device)
    if int(goal.max()) >= on.base.classes or bool(torch.eq(goal, on.label).any()):
        raise ValueError(
            f"targets must be from 0 to {on.base.classes - 1} and differ from the images' labels"
        )
    return goal


def _defenders(entrant: Entrant) -> list[Defender]:
    return [agent for agent in entrant.agents if isinstance(agent, Defender)]


def _common(on: Ground, originals: NDArray[np.float32], fingerprint: str) -> dict[str, Any]:
    """What all matches share, by fields of `MatchInfo`."""
    _, channels, height, width = on.x.shape
    dataset = image_set(originals, on.label.cpu().numpy())
    return {
        "fingerprint": fingerprint,
        "classifier": on.base.title,
        "classifier_sha": on.base.sha,
        "dataset": dataset.name,
        "dataset_sha": dataset.sha,
        "classes": on.base.classes,
        "image_shape": (channels, height, width),
    }


def _sides(player: Attacker, side: Entrant, stack: Stack, facts: list[dict[str, Any]]) -> dict[str, Any]:
    """What a stack says of itself and of who meets it, by fields of `MatchInfo`."""
    named = [{"name": name_of(d), **parameters(d)} for d in stack.defenders]
    return {
        "defender": "+".join(name_of(d) for d in stack.defenders),
        "defender_params": _json({"defenders": named}),
        "defender_title": side.title,
        "verdict": "answered" if stack.answers_are_facts else "vote",
        "answers_are_facts": stack.answers_are_facts,
        "facts": _json(
            {
                "hardened_sha": stack.base.sha,
                "defenders": facts,
                "roles": roles(player, stack.defenders),
                "catalogue": described(stack.defenders),
            }
        ),
    }


def _json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as JSON values; what JSON does not have, such as a tensor, by its shortened text."""
    plain: dict[str, Any] = json.loads(json.dumps(values, default=_text))
    return plain


def _text(value: Any) -> str:
    words = " ".join(repr(value).split())
    return words if len(words) <= 100 else f"{words[:97]}..."
