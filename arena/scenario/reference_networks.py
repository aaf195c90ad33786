"""The reference networks that a match's threat grants: loaded, checked, and told apart by their SHAs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from arena.classifiers import ClassifierError, ClassifierSpec
from arena.classifiers.surrogates import check_sendable, spec_of
from arena.rules.threat import NamedNetwork, Threat
from arena.scenario.errors import ScenarioError


def specs_of(threat: Threat, where: str, *, isolated: bool = False) -> list[ClassifierSpec]:
    """The networks that a threat names.

    Args:
        where: the beginning of error sentences.
        isolated: whether its attacker plays in a process of its own, to which they must be handed.

    Raises:
        ScenarioError: if one is named in a way that no network can be, or cannot be handed over.
    """
    specs = []
    for number, named in enumerate(threat.resources.surrogates, 1):
        with placed(where, number):
            specs.append(spec := spec_of(named.table))
            if isolated:
                check_sendable(spec)
    return specs


@contextmanager
def placed(where: str, number: int) -> Iterator[None]:
    """Adds to an error which of a threat's reference networks it is about, from 1."""
    try:
        yield
    except (ClassifierError, FileNotFoundError, PermissionError) as error:
        raise ScenarioError(f"{where}threat: resources.surrogates: {number}: {error}") from error


def pinned(threat: Threat, shas: Sequence[str]) -> Threat:
    """A threat that tells its reference networks by their SHAs, not by where their weights lie: as seats and
    logs hold it."""
    named = [
        NamedNetwork.model_validate(without_weights(one.table) | {"sha": sha})
        for one, sha in zip(threat.resources.surrogates, shas, strict=True)
    ]
    return threat.with_surrogates(named) if named else threat


def without_weights(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != "weights"}
