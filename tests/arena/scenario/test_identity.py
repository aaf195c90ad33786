"""What makes two matches the same: what counts, and what does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from arena.provenance import source_closure
from arena.scenario.files import parse_scenario
from arena.scenario.identity import PLAYED_BY, fingerprint, match_identity, modules_of
from arena.scenario.matches import Match

TABLE = {
    "games": 12,
    "attackers": [{"name": "hop-skip-jump", "initial_probes": 7}],
    "defenders": [{"name": "snd", "sigma": 0.05}],
    "threat": {"norm": "l2", "epsilon": "inf", "budget": 20, "feedback": "label", "objective": "minimum"},
}
FACTS: dict[str, Any] = {
    "dataset_sha": "data",
    "classifier_sha": "weights",
    "prepared_sha": "prepared",
    "device": torch.device("cpu"),
    "batch": 64,
    "max_rows": 4096,
    "forward": ("fused",),
    "threads": 1,
    "level": "queries",
}


def match(**changes: Any) -> Match:
    return parse_scenario({**TABLE, **changes}, "small", Path.cwd(), "small").matches[0]


def own(played: Match | None = None, **facts: Any) -> str:
    return fingerprint(match_identity(played or match(), **FACTS | facts))


def test_it_is_json_and_names_what_it_depends_on() -> None:
    identity = match_identity(match(), **FACTS)
    assert json.loads(json.dumps(identity)) == identity
    assert identity["attacker"]["initial_probes"] == 7
    assert (identity["dataset_sha"], identity["classifier_sha"]) == ("data", "weights")
    assert identity["versions"]["torch"] == torch.__version__
    assert {"numpy", "pillow", "python", "safetensors"} <= identity["versions"].keys()
    assert identity["arithmetic"] == torch.backends.cpu.get_cpu_capability()
    assert fingerprint(identity) == own()


@pytest.mark.parametrize(
    "changes",
    [
        {"games": 13},
        {"shard": 6},
        {"repeats": 2},
        {"seed": 1},
        {"at": [5]},
        {"votes": 3},
        {"attackers": [{"name": "hop-skip-jump", "initial_probes": 8}]},
        {"attackers": [{"name": "vote", "repeats": 1, "of": {"name": "hop-skip-jump", "initial_probes": 7}}]},
        {"defenders": ["none"]},
        {"threat": {**TABLE["threat"], "budget": 21}},  # type: ignore[dict-item]
    ],
)
def test_what_is_played_counts(changes: dict[str, Any]) -> None:
    assert own(match(**changes)) != own()


@pytest.mark.parametrize(
    "changes", [{"title": "another"}, {"radii": [0.5]}, {"verdict": "base"}, {"utility": 7}, {"log": "games"}]
)
def test_what_a_match_is_called_and_how_it_is_shown_does_not_count(changes: dict[str, Any]) -> None:
    assert own(match(**changes)) == own()


def test_where_a_match_stands_does_not_count() -> None:
    blocks = [
        {"title": "first", "seed": 1},
        {"title": "second", "attackers": ["boundary", *TABLE["attackers"]]},
    ]
    matches = parse_scenario({**TABLE, "block": blocks}, "two", Path.cwd(), "two").matches
    assert [own(m) == own() for m in matches] == [False, False, True]


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("dataset_sha", "other"),
        ("classifier_sha", "other"),
        ("prepared_sha", "fitted"),
        ("batch", 32),
        ("max_rows", 1),
        ("forward", ()),
        ("threads", 2),
        ("level", "games"),
    ],
)
def test_what_plays_and_records_it_counts(fact: str, value: Any) -> None:
    assert own(**{fact: value}) != own()


def test_the_processor_and_the_versions_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = own()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "another")
    other = own()
    monkeypatch.setattr("platform.python_version", lambda: "4.0")
    assert len({before, other, own()}) == 3


def test_data_and_weights_are_told_by_what_is_in_them_not_by_where_they_lie() -> None:
    here, there = (
        match(
            dataset={"name": "npz", "path": f"{folder}/own.npz"},
            classifier={"network": "digits-cnn", "weights": f"{folder}/own.safetensors"},
        )
        for folder in ("here", "there")
    )
    assert here.describe() != there.describe()
    assert own(here) == own(there) != own()


def test_agents_inside_agents_and_the_networks_factory_are_found() -> None:
    found = modules_of(
        match(
            attackers=[{"name": "vote", "repeats": 3, "of": {"name": "jitter", "of": "boundary"}}],
            defenders=[{"stack": ["predcoin", "snd"]}],
            classifier={"network": "my_networks.small:Narrow"},
        )
    )
    assert found == {
        "agents.attackers.adaptive.jitter",
        "agents.attackers.adaptive.vote",
        "agents.attackers.decision.boundary",
        "agents.defenders.predcoin.predcoin",
        "agents.defenders.snd",
        "my_networks.small",
    }
    assert modules_of(match()) == {"agents.attackers.decision.hop_skip_jump", "agents.defenders.snd"}


def test_reports_logs_and_the_command_line_do_not_count() -> None:
    sources = source_closure(PLAYED_BY).sources
    beside = (
        "api",
        "bench",
        "cli",
        "conformance",
        "envs",
        "log",
        "report",
        "running",
        "scenario",
        "training",
    )
    assert not [name for name in sources if name.startswith(tuple(f"arena.{folder}" for folder in beside))]
    assert {"arena.game.referee", "arena.game.verdicts", "arena.draws", "arena.classifiers.forward"} <= set(
        sources
    )


@pytest.mark.parametrize(
    ("helper", "agents"),
    [
        ("agents.attackers.parts.directions", {"attackers": ["sign-opt"]}),
        ("agents.attackers.parts.walks", {"attackers": [{"name": "vote", "repeats": 3, "of": "boundary"}]}),
        ("agents.defenders.aaa.descent", {"defenders": ["snd", "aaa-sine"]}),
    ],
)
def test_what_an_agent_imports_is_part_of_its_matches_alone(helper: str, agents: dict[str, Any]) -> None:
    with_it = parse_scenario({**TABLE, **agents}, "small", Path.cwd(), "small").matches[-1]
    assert helper in source_closure(modules_of(with_it)).sources
    assert helper not in source_closure([*modules_of(match()), *PLAYED_BY]).sources
