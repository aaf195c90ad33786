from __future__ import annotations

import json
from dataclasses import dataclass

from arena.players import Defender
from arena.players.catalogue import altered, described
from arena.players.registry import build_stack


@dataclass(frozen=True)
class Plain(Defender):
    """One without a card."""


def test_a_stack_is_described_in_json_values_in_its_order() -> None:
    told = described(build_stack(["aaa-linear", "snd", Plain()]))
    assert json.loads(json.dumps(told)) == told
    assert [one["name"].rpartition(":")[2] for one in told] == ["aaa-linear", "snd", "Plain"]
    assert [one.get("alters") for one in told] == [["scores"], ["input"], None]
    assert [one["random"] for one in told] == [False, True, False]
    assert "WACV 2022" in told[1]["paper"] and "broken_by" not in told[1]


def test_what_is_altered_is_said() -> None:
    assert altered(("weights", "input")) == "weights, input"
    assert altered(()) == "nothing"
