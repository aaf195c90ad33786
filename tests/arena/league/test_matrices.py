from __future__ import annotations

from arena.league.matrices import matrices
from tests.arena.league.made import THREAT, match


def test_matches_of_one_world_and_threat_are_crossed() -> None:
    found = matrices(
        [
            match("a", "x", [1, 0], marks={10: [0, 0]}),
            match("a", "y", [1, 1], marks={10: [0, 0]}),
            match("b", "x", [0, 0]),
            match("a", "x", [1, 1], threat=THREAT.model_copy(update={"knowledge": "defense"})),
        ]
    )
    assert [(m.threat.knowledge, m.at) for m in found] == [("none", 100), ("none", 10), ("defense", 100)]
    first, early, _ = found
    assert first.attackers == ("a", "b") and first.defenders == ("x", "y")
    assert first.missing == (("b", "y"),)
    assert early.attackers == ("a",) and not early.missing
    assert early.threat.budget == 10
    assert [c.defender for c in first.of("a")] == ["x", "y"]
    assert [c.attacker for c in first.against("x")] == ["a", "b"]


def test_only_wanted_counts() -> None:
    source = match(won=[1], marks={10: [0], 20: [0]})
    assert [m.at for m in matrices([source], [20, 5])] == [20]


def test_a_shorter_budget_is_of_the_same_matrix() -> None:
    """Attackers whose run depends on the budget are played once for each count."""
    long, short = (
        match("a", "x", [1, 1], marks={10: [1, 1]}),
        match("b", "x", [1, 0], threat=THREAT.with_budget(10)),
    )
    at_100, at_10 = matrices([long, short])
    assert at_100.attackers == ("a",)
    assert at_10.attackers == ("a", "b")
    again = match("a", "x", [0, 1], threat=THREAT.with_budget(10), run=2)
    cell = matrices([long, again], [10])[0].cells["a", "x"]
    assert cell.games.lost("answered").tolist() == [0, 1], "its own run at that budget counts"
    assert not cell.conflicts


def test_draws_are_added_and_named_alike_in_all_cells() -> None:
    found = matrices(
        [
            match("a", "x", [1, 0], draw="0"),
            match("a", "x", [1, 1], draw="7", run=2),
            match("b", "x", [0, 1], draw="7", run=2),
        ]
    )[0]
    assert found.cells["a", "x"].games.draw.tolist() == [0, 0, 1, 1]
    assert found.cells["b", "x"].games.draw.tolist() == [1, 1]
    assert found.cells["a", "x"].games.lost("answered").tolist() == [1, 0, 1, 1]


def test_the_same_games_of_two_logs_count_once_and_must_agree() -> None:
    one, same = match(won=[1, 0]), match(won=[1, 0], run=2, log="other.db")
    cell = matrices([one, same])[0].cells["att", "def"]
    assert len(cell.games) == 2 and not cell.conflicts
    other = match(won=[1, 1], run=2, log="other.db")
    cell = matrices([one, other])[0].cells["att", "def"]
    assert cell.conflicts == (
        "1 of 2 games came out otherwise in run 1 of log.db than in run 2 of other.db, which is shown",
    )
    assert len(cell.games) == 2, "never averaged"


def test_of_equal_draws_the_one_with_most_games_counts() -> None:
    cell = matrices([match(won=[1, 0, 1]), match(won=[1, 0], run=2)])[0].cells["att", "def"]
    assert len(cell.games) == 3


def test_agents_of_equal_names_are_told_apart() -> None:
    found = matrices([match("a", "x", [1], params={"p": 1}), match("a", "x", [0], params={"p": 2})])[0]
    assert len(found.attackers) == 2 and len(found.cells) == 2
    assert all(name.startswith("a") for name in found.attackers)
