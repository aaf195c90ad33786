"""The fuzz of the Referee at a small size: it agrees with the rules, wins games, and finds planted bugs."""

from __future__ import annotations

from random import Random

import pytest

from bench.books.both import Both, Difference, same
from bench.books.bugs import BUGS, Bug
from bench.books.plays import random_play
from bench.fuzz import Found, plays, rows_until_found
from bench.fuzz import main as fuzz


def test_the_referee_agrees_with_the_rules_where_games_are_won() -> None:
    tally = list(plays(4000, seed=5))[-1]
    assert tally["rows"] >= 4000
    for verdict in ("answered", "vote", "again", "base"):
        assert tally[f"won by {verdict}"] >= 20
    for reason in ("hit", "submitted", "budget", "resigned", "banned", "no-start", "clean"):
        assert tally[f"ended {reason}"] > 0
    assert min(tally[what] for what in ("refused", "banned accounts", "malformed", "marks")) > 10
    assert tally["insider"] > 0
    assert tally["won by any"] > 0.2 * tally["games"]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found_within_6000_rows(bug: Bug) -> None:
    assert rows_until_found(bug, 6000, seed=0) is not None


def test_there_are_many_kinds_of_bugs_and_none_is_left_behind() -> None:
    assert len(BUGS) >= 10
    Both(random_play(Random(0))).run()


def test_a_difference_names_what_differs_alone() -> None:
    with pytest.raises(Difference, match=r"^the end: the Referee has {'b': 2.0}, the rules say {'b': nan}$"):
        same("the end", {"a": float("nan"), "b": 2.0}, {"a": float("nan"), "b": float("nan")})
    same("probabilities", [[0.5, 0.5]], [[0.5 + 1e-7, 0.5]], 1e-6)
    with pytest.raises(Difference):
        same("probabilities", [[0.5, 0.5]], [[0.5 + 1e-7, 0.5]])


def test_the_command_says_what_differs_and_in_which_play(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["fuzz", "--rows", "300"])
    with BUGS[0](), pytest.raises(SystemExit) as end:
        fuzz()
    said = capsys.readouterr().out
    assert end.value.code == 1
    assert said.startswith("the Referee and the rules differ in play ")
    number = said.split("play ")[1].split(",")[0]
    monkeypatch.setattr("sys.argv", ["fuzz", "--play", number])
    with BUGS[0](), pytest.raises(SystemExit):
        fuzz()
    assert f"play {number}, after 0 rows" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        fuzz()
    assert end.value.code == 0
    assert "no difference" in capsys.readouterr().out


def test_the_command_plants_each_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.fuzz.BUGS", BUGS[:2])
    monkeypatch.setattr("sys.argv", ["fuzz", "--planted", "--rows", "1"])
    with pytest.raises(SystemExit) as end:
        fuzz()
    assert end.value.code in (0, 1)
    assert capsys.readouterr().out.startswith("one query too many: ")
    with pytest.raises(Found), BUGS[2]():
        list(plays(2000, seed=0))
