"""What a runner records about runs and matches before they are played."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from arena.records.pieces import LogLevel
from arena.rules.outcome import Verdict
from arena.rules.threat import Threat


@dataclass(frozen=True)
class RunInfo:
    """A scenario that is about to be played.

    Attributes:
        scenario: the name of the scenario file.
        versions: of the program and of what its results depend on, by name.
        device: in words.
        fingerprint: of everything that decides the results; an interrupted run with the same one can be
        continued.
        level: how much is logged.
        batch: the resolved batch size.
        resolved: the scenario with all defaults filled in, as JSON values.
    """

    scenario: str
    title: str
    seed: int
    versions: Mapping[str, str]
    device: str
    fingerprint: str
    level: LogLevel = "queries"
    batch: int | None = None
    resolved: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MatchInfo:
    """One attacker against one defended classifier, about to be played.

    Attributes:
        number: the match's place in its scenario, from 0.
        fingerprint: of all that decides the match's results and what is recorded of them
            (`arena.scenario.identity`): whichever run wants a match of this fingerprint may use this one.
        attacker, defender: names of agents, with the parameters that make them again.
        classifier, classifier_sha, dataset, dataset_sha: names, and what tells their contents apart.
        classes: how many labels there are.
        image_shape: (C, H, W).
        at: query counts at which verdicts are reported.
        repeats: how often the games are played, with new seeds.
        verdict: the headline of the result.
        radii: distances in the threat's norm within which success is reported.
        block, title: of the scenario's block; of the match within it, where the same agents play several.
        attacker_title, defender_title: for tables; the names where empty.
        utility: on how many clean images the defended classifier is evaluated beside the match; 0: not.
        benign: the benign traffic that is played against it beside the match; None: none.
        answers_are_facts: the defended classifier always gives the same image the same answer.
        facts: what the defender found as it was fitted, as JSON can hold it; as `roles` whether the
            sides are controls, and the attacker's plain twin; as `catalogue` what it alters, remembers and
            claims.
    """

    number: int
    fingerprint: str
    attacker: str
    attacker_params: Mapping[str, Any]
    defender: str
    defender_params: Mapping[str, Any]
    classifier: str
    classifier_sha: str
    dataset: str
    dataset_sha: str
    threat: Threat
    classes: int
    image_shape: tuple[int, int, int]
    at: tuple[int, ...] = ()
    repeats: int = 1
    verdict: Verdict = "answered"
    radii: tuple[float, ...] = ()
    block: str = ""
    title: str = ""
    attacker_title: str = ""
    defender_title: str = ""
    utility: int = 0
    benign: Mapping[str, Any] | None = None
    answers_are_facts: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)
