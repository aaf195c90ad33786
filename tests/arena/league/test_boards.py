from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from arena.league import deploying
from arena.league.board import Board, Finding
from arena.league.boards import board_of
from arena.league.cells import Source
from arena.league.equilibrium import equilibrium
from arena.league.matrices import Matrix
from arena.rules.threat import NamedNetwork
from tests.arena.league.made import THREAT, match, utility

N = 60
SHARES = {("a", "x"): 0.9, ("a", "y"): 0.2, ("b", "x"): 0.3, ("b", "y"): 0.4}


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploying, "equilibrium", partial(equilibrium, resamples=3))


def played(votes: int = 1, **given: object) -> list[Source]:
    random = np.random.default_rng(0)
    made = []
    for number, ((a, d), share) in enumerate(SHARES.items()):
        hard = random.random(N)
        won, early = (hard < share) * 1.0, (hard < share / 2) * 1.0
        made.append(
            match(a, d, won, votes=votes, marks={10: early}, utility=utility(), number=number, **given)  # type: ignore[arg-type]
        )
    return made


def test_a_board_says_all_of_it() -> None:
    board = board_of(played(), title="Mine", cap_accuracy=None)
    assert board.title == "Mine" and [m.at for m in board.matrices] == [100, 10]
    first = board.matrices[0]
    assert set(first.cells) == set(SHARES) and not first.missing and first.by == "left"
    cell = first.cells["a", "x"]
    assert [at for at, _ in cell.curve] == [0, 10, 100]
    assert cell.curve[0][1] == 1 and cell.curve[2][1] == pytest.approx(cell.left["answered"].value)
    assert [at for at, _ in board.matrices[1].cells["a", "x"].curve] == [0, 10]
    assert [r.agent for r in first.defender_ranks] == ["y", "x"] and first.defender_ranks[0].low == 1
    assert first.equilibrium is not None and len(first.ratings) == 4
    assert first.utilities == {"x": utility(), "y": utility()}
    assert cell.facts[0]["command"] == "arena play made" and cell.facts[0]["match"] == 100
    assert board.logs[0]["log"] == "log.db" and len(board.logs[0]["runs"]) == 1
    assert not first.unsaid and not first.notes


def test_sentences_are_three_at_most_and_open_about_what_is_open() -> None:
    board = board_of(played(), title="")
    one, two, three = board.sentences
    assert one.startswith("On images with net, at 100 queries")
    assert "y keeps most in its worst case over 2 attackers" in one and "[" in one
    assert "is settled as better than all others" in one
    assert "it is not settled as stronger than" in two or "it is settled as stronger" in two
    assert "drawn from" in three or "No mixture" in three
    few = board_of([match(a, d, [1, 0, a == "a", 0, 0]) for a in "ab" for d in "xy"], title="")
    assert "is not settled as better than" in few.sentences[0]
    assert board_of([], title="").sentences == ["The logs hold no finished games."]


def test_counts_and_knowledge_are_chosen() -> None:
    knowing = THREAT.model_copy(update={"knowledge": "defense"})
    sources = [*played(), *played(threat=knowing)]
    found = board_of(sources, title="", counts=[10])
    assert [(m.at, m.threat.knowledge) for m in found.matrices] == [(10, "none"), (10, "defense")]
    assert [at for at, _ in found.matrices[0].cells["a", "x"].curve] == [0, 10]
    found = board_of(sources, title="", knowledge="defense")
    assert {m.threat.knowledge for m in found.matrices} == {"defense"}
    helped = THREAT.with_surrogates([NamedNetwork(network="net")])
    for known, there in (("none", 1), ("surrogates", 1), ("weights", 0)):
        found = board_of([*played(), *played(threat=helped)], title="", counts=[10], knowledge=known)
        assert [m.threat.known for m in found.matrices] == [known] * there


def grave(matrix: Matrix) -> list[Finding]:
    return [Finding("silent", "found", True, "b", "", f"at {matrix.at} queries b hits in silence.")]


def test_what_the_audit_finds_grave_is_withheld_everywhere() -> None:
    first = board_of(played(), title="", findings=grave).matrices[0]
    said = "audit, silent: at 100 queries b hits in silence."
    assert first.cells["b", "x"].withheld == said and not first.cells["a", "x"].withheld
    assert all(w.attackers == ("a",) and w.left_out == {"b": said} for w in first.worst)
    assert first.attacker_ranks[-1].agent == "b" and first.attacker_ranks[-1].withheld == said
    assert {r.agent for r in first.ratings} == {"a", "x", "y"}
    assert first.notes == {"ratings": "b: none of its cells may be ranked"}
    assert first.equilibrium is not None and "b" in first.equilibrium.left_out
    assert first.findings[0].indicator == "silent"


def unranked(board: Board) -> None:
    (first,) = [m for m in board.matrices if m.at == 100]
    assert not first.worst and not first.defender_ranks and not first.ratings and first.equilibrium is None
    assert set(first.unsaid) == {
        "worst", "defender_ranks", "attacker_ranks", "orders", "ratings", "equilibrium"
    }  # fmt: skip
    assert "nothing can be ranked" in board.sentences[0]


def test_objective_first_against_random_defenders_gets_no_rank() -> None:
    board = board_of(played(25, threat=THREAT.model_copy(update={"objective": "first"})), title="")
    unranked(board)
    assert "two ends" in board.matrices[0].cells["a", "x"].withheld
    assert {"answered", "vote"} <= set(board.matrices[0].cells["a", "x"].left), "both are shown"


def test_unfinished_matches_get_no_rank() -> None:
    unranked(board_of(played(shards=(1, 2)), title=""))


def test_lucky_answers_rank_nobody() -> None:
    """Against a random defender a lucky answer is a hit in `answered`; ranks are of votes."""
    lucky = match("a", "x", np.full(N, 2 / 25), votes=25)
    sound = match("a", "y", (np.arange(N) < 20) * 1.0, votes=1)
    first = board_of([lucky, sound], title="").matrices[0]
    assert first.cells["a", "x"].left["answered"].value == 0
    assert [r.agent for r in first.defender_ranks] == ["x", "y"]


def test_in_an_infinite_ball_only_distances_speak() -> None:
    threat = THREAT.model_copy(update={"objective": "minimum", "epsilon": np.inf})
    first = board_of(played(threat=threat), title="").matrices[0]
    assert first.by == "distance" and first.worst[0].distance is not None
    assert "the ball is infinite" in first.unsaid["ratings"] and "ratings" in first.unsaid
    assert first.equilibrium is None and not first.ratings


def test_the_same_log_gives_the_same_board() -> None:
    assert repr(board_of(played(25), title="")) == repr(board_of(played(25), title=""))
