"""Epsilon and feedback as users write them, and the rules that do not fit together."""

from __future__ import annotations

import contextlib
import json
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from arena.rules.threat import (
    GrantedResources,
    NamedNetwork,
    Threat,
    parse_epsilon,
    parse_feedback,
    parse_threat,
)


@pytest.mark.parametrize(
    ("written", "radius"),
    [
        ("8/255", 8 / 255),
        (" 8/255 ", 8 / 255),
        ("0.3", 0.3),
        ("1e-3", 1e-3),
        (1, 1.0),
        (2.5, 2.5),
        (Fraction(1, 3), 1 / 3),
        ("inf", math.inf),
        (math.inf, math.inf),
    ],
)
def test_epsilon_is_read(written: Any, radius: float) -> None:
    found = parse_epsilon(written)
    assert isinstance(found, float)
    assert found == radius


@pytest.mark.parametrize(
    "written",
    ["", "eight", "8/0", "8/255/2", "0", 0, -1, "-8/255", "nan", math.nan, True, None, [8], 10**400],
)
def test_epsilon_that_is_no_radius_is_refused_by_its_name(written: Any) -> None:
    with pytest.raises(
        ValueError, match=r'^epsilon must be a positive number, a fraction such as "8/255"'
    ) as e:
        parse_epsilon(written)
    assert repr(written) in str(e.value)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_epsilon_of_a_fraction_is_the_nearest_float(p: int, q: int) -> None:
    assert parse_epsilon(f"{p}/{q}") == p / q


@given(st.one_of(st.text(), st.floats(), st.integers(), st.text("0123456789./-einf", max_size=8)))
def test_epsilon_is_positive_or_a_value_error(written: Any) -> None:
    with contextlib.suppress(ValueError):
        assert parse_epsilon(written) > 0


@pytest.mark.parametrize(
    ("feedback", "k"),
    [("logits", None), ("probabilities", None), ("label", None), ("topk:1", 1), ("topk:10", 10)],
)
def test_feedback_is_read(feedback: str, k: int | None) -> None:
    threat = Threat(epsilon=1, budget=1, feedback=feedback)
    assert (threat.feedback, threat.top_k) == (feedback, k)


@pytest.mark.parametrize(
    "written", ["", "scores", "topk", "topk:", "topk:0", "topk:-1", "topk:1.5", "Label", None, 3]
)
def test_unknown_feedback_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match=r'^feedback must be "logits", .*"topk:K" \(K from 1\)'):
        parse_feedback(written)


@pytest.mark.parametrize(
    ("rules", "where"),
    [
        ({"norm": "l1"}, "norm"),
        ({"budget": 0}, "budget"),
        ({"budget": 2**24 + 1}, "budget"),
        ({"goal": "any"}, "goal"),
        ({"objective": "best"}, "objective"),
        ({"quantisation": "ceil"}, "quantisation"),
        ({"accounts": 0}, "accounts"),
        ({"knowledge": "all"}, "knowledge"),
        ({"resources": {"images": -1}}, "resources"),
        ({"resources": {"models": 1}}, "resources"),
        ({"resources": {"surrogates": ["net"] * 65}}, "resources"),
        ({"epsilon": "far"}, "epsilon"),
        ({"feedback": "topk:0"}, "feedback"),
        ({"radius": 1}, "radius"),
    ],
)
def test_error_names_the_key(rules: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError) as e:
        Threat(**{"epsilon": 1, "budget": 10, **rules})
    (error,) = e.value.errors()
    assert error["loc"][0] == where


@pytest.mark.parametrize("key", ["epsilon", "budget"])
def test_epsilon_and_budget_have_no_default(key: str) -> None:
    rules: dict[str, Any] = {"epsilon": 1, "budget": 10}
    del rules[key]
    with pytest.raises(ValidationError, match="Field required"):
        Threat(**rules)


@pytest.mark.parametrize("objective", ["first", "submit"])
def test_infinite_ball_needs_objective_minimum(objective: Any) -> None:
    rules: dict[str, Any] = {"epsilon": "inf", "budget": 1}
    with pytest.raises(
        ValidationError, match=f'epsilon "inf" needs objective "minimum"; found objective "{objective}"'
    ):
        Threat(**rules, objective=objective)
    assert math.isinf(Threat(**rules, objective="minimum").epsilon)


@given(
    epsilon=st.sampled_from(["8/255", 0.1, 3, "inf"]),
    feedback=st.sampled_from(["logits", "topk:3"]),
    images=st.integers(0, 5),
)
def test_json_comes_back_the_same(epsilon: Any, feedback: str, images: int) -> None:
    threat = Threat(
        epsilon=epsilon,
        budget=5,
        feedback=feedback,
        objective="minimum",
        resources=GrantedResources(images=images),
    )
    assert Threat.model_validate_json(threat.model_dump_json()) == threat
    assert Threat(**threat.model_dump()) == threat


def test_rules_do_not_change() -> None:
    threat = Threat(epsilon=1, budget=10)
    with pytest.raises(ValidationError, match="frozen"):
        threat.budget = 11
    assert threat.with_budget(3).budget == 3
    assert threat.with_budget(3).with_budget(10) == threat


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"norm": "l1"}, "threat: norm: found 'l1'; input should be 'l2' or 'linf'"),
        ({"budget": "100"}, "threat: budget: found '100'; input should be a valid integer"),
        (
            {"resources": {"start": True}},
            'threat: resources.start: there is no such key; did you mean "starts"?',
        ),
        (
            {"resources": {"surrogates": "net"}},
            "threat: resources.surrogates: a list of networks; found 'net'",
        ),
        (
            {"resources": {"surrogates": ["net", 3]}},
            "threat: resources.surrogates.1: a network's name, or a table of a classifier's keys; found 3",
        ),
        (
            {"resources": {"surrogates": [{"network": "net", "params": {"set": {1}}}]}},
            "threat: resources.surrogates.0.params.dict.set: found {1}; input was not a valid JSON value",
        ),
        ({"goals": "targeted"}, 'threat: goals: there is no such key; did you mean "goal"?'),
        ({"epsilon": "inf"}, 'threat: epsilon "inf" needs objective "minimum"; found objective "first"'),
    ],
)
def test_a_fault_of_a_table_is_one_sentence(rules: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r"^threat: ") as e:
        parse_threat({"epsilon": 1, "budget": 10, **rules})
    assert str(e.value).startswith(said)
    assert "\n" not in str(e.value)


def test_each_fault_has_its_sentence_and_a_threat_stays_itself() -> None:
    with pytest.raises(
        ValueError, match=r"^threat: budget: this key is missing\nthreat: radius: there is no"
    ):
        parse_threat({"epsilon": 1, "radius": 2})
    threat = Threat(epsilon=1, budget=10)
    assert parse_threat(threat) is threat
    assert parse_threat({"epsilon": 1, "budget": 10, "resources": {"starts": True}}).resources.starts


def test_reference_networks_are_plain_tables_that_come_back_from_json() -> None:
    table = {"network": "other", "weights": "w.safetensors", "params": {"classes": 4}, "mean": [0.5]}
    threat = parse_threat({"epsilon": 1, "budget": 10, "resources": {"surrogates": ["net", table]}})
    first, second = threat.resources.surrogates
    assert (first.table, second.table) == ({"network": "net"}, table)
    assert Threat(**json.loads(threat.model_dump_json())) == threat
    assert hash(threat) == hash(Threat(**threat.model_dump(mode="json")))
    assert (first.title, second.title) == ("net", "other")
    pinned = threat.with_surrogates(
        [NamedNetwork.model_validate({"network": "net", "sha": "0123456789abcdef"})]
    )
    assert [one.title for one in pinned.resources.surrogates] == ["net (0123456789ab)"]
    assert pinned != threat and pinned.with_surrogates(threat.resources.surrogates) == threat


def test_a_threat_that_grants_none_is_told_as_before_they_could_be_granted() -> None:
    threat = Threat(epsilon=1, budget=10)
    assert threat.model_dump(mode="json")["resources"] == {"images": 0, "starts": False}
    assert "surrogates" not in threat.model_dump_json()


@pytest.mark.parametrize(
    ("knowledge", "networks", "known"),
    [
        ("none", [], "none"),
        ("weights", [], "weights"),
        ("none", ["a"], "surrogates"),
        ("defense", ["a", "b"], "defense+surrogates"),
    ],
)
def test_reference_networks_are_a_knowledge(knowledge: Any, networks: list[str], known: str) -> None:
    threat = parse_threat(
        {"epsilon": 1, "budget": 10, "knowledge": knowledge, "resources": {"surrogates": networks}}
    )
    assert threat.known == known
