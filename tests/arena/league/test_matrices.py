from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from arena.league.matrices import matrices, read_sources
from arena.log import open_log, questions
from arena.rules.threat import NamedNetwork, Threat
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


def test_under_objective_minimum_the_distances_must_agree_too() -> None:
    threat = THREAT.model_copy(update={"objective": "minimum"})

    def conflicts(linf: list[float]) -> tuple[str, ...]:
        one = match(won=[1, 1, 0], threat=threat, linf=[0.05, 0.07, np.nan])
        other = match(won=[1, 1, 0], threat=threat, linf=linf, run=2, log="other.db")
        return matrices([one, other])[0].cells["att", "def"].conflicts

    assert not conflicts([0.05, 0.07001, np.inf])
    assert len(conflicts([0.05, 0.09, np.nan])) == 1


def test_of_equal_draws_the_one_with_most_games_counts() -> None:
    cell = matrices([match(won=[1, 0, 1]), match(won=[1, 0], run=2)])[0].cells["att", "def"]
    assert len(cell.games) == 3


def test_agents_of_equal_names_are_told_apart() -> None:
    found = matrices([match("a", "x", [1], params={"p": 1}), match("a", "x", [0], params={"p": 2})])[0]
    assert len(found.attackers) == 2 and len(found.cells) == 2
    assert all(name.startswith("a") for name in found.attackers)


def test_a_label_means_the_same_agent_at_all_counts() -> None:
    short = THREAT.with_budget(50)
    early = match("a", won=[1], params={"p": 1}, threat=short)
    late = match("a", won=[0], params={"p": 2}, number=1)
    assert {m.at: m.attackers for m in matrices([early, late])} == {50: ("a (p=1)",), 100: ("a (p=2)",)}


@pytest.fixture(scope="module")
def book(replays: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of two runs of one scenario, the second of which adds a defender."""
    path: Path = tmp_path_factory.mktemp("league") / "two.db"
    rules = {
        "games": 6,
        "shard": 4,
        "at": [5],
        "threat": {"epsilon": 0.25, "budget": 10, "objective": "submit"},
    }
    rules |= {"attackers": [{"name": "square", "p": 0.3}]}
    replays.play(path, **rules, defenders=["none"])
    replays.play(path, **rules, defenders=["none", {"name": "snd", "sigma": 0.3}])
    return path


def test_matches_of_a_log_are_read_once_and_whole(book: Path) -> None:
    with open_log(book, create=False) as log:
        sources = read_sources(log)
    assert [(s.match.info.attacker, s.match.info.defender) for s in sources] == [
        ("square", "none"),
        ("square", "snd"),
    ]
    assert all(s.shards == (2, 2) and s.log == str(book) for s in sources)
    for matrix in (found := matrices(sources)):
        for cell in matrix.cells.values():
            assert cell.whole and (~cell.games.clean).sum() == 6
            names = list(zip(cell.games.image.tolist(), cell.games.repeat.tolist(), strict=True))
            assert names == sorted(names)
    assert [m.at for m in found] == [10, 5]
    first, second = found[0].cells.values()
    assert first.games.image.tolist() == second.games.image.tolist(), "all matches play the same images"


def test_verdicts_at_the_budget_are_those_of_the_log(book: Path) -> None:
    with open_log(book, create=False) as log:
        (source, _) = read_sources(log)
        rows = questions.sql(
            log, f"SELECT image, answered, hit_at FROM games WHERE match_id = {source.match.id}"
        )
    told = {image: (bool(answered), hit_at) for image, answered, hit_at in rows.rows}
    (at_10, at_5) = (matrix.cells["square", "none"].games for matrix in matrices([source]))
    for n, image in enumerate(at_10.image.tolist()):
        answered, hit_at = told[image]
        assert at_10.answered[n] == answered
        if not at_10.clean[n]:
            assert at_5.answered[n] == (hit_at is not None and hit_at <= 5)


def test_attackers_with_reference_networks_have_matrices_of_their_own() -> None:
    """By their content, and by which they are: not by where their weights lie, which no log tells."""
    one, two = ({"network": "net", "sha": sha * 64} for sha in "12")

    def granted(*tables: dict[str, str]) -> Threat:
        return THREAT.with_surrogates(map(NamedNetwork.model_validate, tables))

    found = matrices(
        [
            match("a", "x", [1]),
            match("b", "x", [1], threat=granted(one)),
            match("c", "x", [0], threat=granted(one)),
            match("b", "x", [1], threat=granted(two)),
            match("b", "x", [1], threat=granted(one, two)),
        ]
    )
    assert [m.attackers for m in found] == [("a",), ("b", "c"), ("b",), ("b",)]
    assert [m.threat.known for m in found] == ["none", *["surrogates"] * 3]
