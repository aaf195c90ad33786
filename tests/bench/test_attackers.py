from __future__ import annotations

import pytest

from arena.players.registry import build_attacker
from arena.rules.threat import parse_threat
from bench.attackers import decision_attackers, measure, score_attackers, threat_for


def test_every_attacker_gets_a_threat_that_it_can_play() -> None:
    found, scored = dict(decision_attackers()), dict(score_attackers())
    assert {"hop-skip-jump", "vote"} <= set(found)
    assert {"square", "eot", "query-net", "prior-rgf"} <= set(scored)
    assert not set(found) & set(scored)
    for attacker in [*found.values(), *scored.values()]:
        assert attacker.needs.unmet(parse_threat(threat_for(attacker, 10, "resnet20"))) is None


@pytest.mark.parametrize("name", ["hop-skip-jump", "square"])
def test_a_row_counts_what_was_played(name: str) -> None:
    row = measure("digits", name, build_attacker(name), 3, 40, [], 1)
    assert (row["attacker"], row["games"]) == (name, 3)
    assert int(str(row["rows"])) >= 3 * 40
    assert 1 <= float(str(row["mean batch"])) <= 64
    assert float(str(row["over forward"])) > 0
