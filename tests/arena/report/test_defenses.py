from __future__ import annotations

from arena.players.catalogue import described
from arena.players.registry import build_stack
from arena.report.columns import NOTHING
from arena.report.defenses import defense


def test_a_defender_says_its_card() -> None:
    row = defense("snd", {"catalogue": described(build_stack("snd"))}, None)
    assert row is not None
    assert (row.alters, row.remembers, row.random) == (["input"], [NOTHING], "yes")
    assert (row.accuracy, row.ece, row.cost) == (NOTHING, NOTHING, NOTHING)
    assert row.papers[0].startswith("Byun")


def test_in_a_stack_each_text_names_its_defender() -> None:
    told = described(build_stack(["aaa-linear", "none", "snd"]))
    told[2] |= {"memory": "account", "alters": None, "claims": ""}
    row = defense("all", {"catalogue": told}, None)
    assert row is not None
    assert row.alters == ["aaa-linear: scores", "none: nothing"]
    assert row.remembers == ["snd: by account"]
    assert [text.partition(":")[0] for text in row.claims] == ["aaa-linear", "none"]


def test_a_log_that_keeps_nothing_of_them_has_no_row() -> None:
    assert defense("snd", {}, None) is None
    assert defense("snd", {"roles": {}}, None) is None
