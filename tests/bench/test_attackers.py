from __future__ import annotations

from arena.players.registry import build_attacker
from arena.rules.threat import parse_threat
from bench.attackers import decision_attackers, measure, threat_for


def test_every_attacker_gets_a_threat_that_it_can_play() -> None:
    found = dict(decision_attackers())
    assert "hop-skip-jump" in found
    assert "square" not in found
    assert "eot" not in found
    for attacker in found.values():
        assert attacker.needs.unmet(parse_threat(threat_for(attacker, 10))) is None


def test_a_row_counts_what_was_played() -> None:
    row = measure("digits", "hop-skip-jump", build_attacker("hop-skip-jump"), 3, 40, [], 1)
    assert row["attacker"] == "hop-skip-jump"
    assert int(str(row["rows"])) >= 3 * 40
    assert 1 <= float(str(row["mean batch"])) <= 64
    assert float(str(row["over forward"])) > 0
