"""Tables of matches."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from arena.notebook.results import Results
from arena.records.reports import QueryRows

VOTED = {"answers_are_facts": False, "verdict": "vote"}


@pytest.fixture
def result(by_hand):
    pytest.importorskip("pandas", reason="the extra `tables` is not installed")
    marks = {at: {"vote": [0.5 * (at > 0), 0]} for at in (0, 10)}
    made = by_hand(["submitted", "budget"], marks, answered=[True, True], vote=[0.5, 0], **VOTED)
    none, two = np.zeros(2, np.bool_), np.arange(2)
    rows = QueryRows("probe", two, two + 1, two * 0, two, none, none, two / 2, two, two, none, none, none)
    return replace(made, rows=[rows])


def test_games_marks_and_queries_have_a_row_each(result) -> None:
    games = result.to_dataframe()
    assert games.reason.tolist() == ["submitted", "budget"]
    assert games.vote.tolist() == [0.5, 0]
    assert (games.wrong / games.asked).tolist() == [0.5, 0]
    assert "again" not in games and "target" not in games
    marks = result.to_dataframe("marks")
    assert list(zip(marks["at"], marks.image, marks.vote, strict=True)) == [
        (0, 0, 0), (0, 1, 0), (10, 0, 0.5), (10, 1, 0),
    ]  # fmt: skip
    queries = result.to_dataframe("queries")
    assert queries.purpose.tolist() == ["probe"] * 2
    assert queries.margin.tolist() == [0, 0.5]
    with pytest.raises(ValueError, match="play with keep_rows=True"):
        replace(result, rows=[]).to_dataframe("queries")


def test_the_curve_has_every_verdict_and_says_which_heads(result) -> None:
    curve = result.to_dataframe("curve")
    assert curve.verdict.tolist() == ["answered"] * 2 + ["vote"] * 2 + ["base"] * 2
    voted = curve[curve.headline]
    assert voted.queries.tolist() == [0, 10]
    assert voted.accuracy.tolist() == [1, 0.75]
    assert (voted.low < voted.accuracy).all() and (voted.high >= voted.accuracy).all()


def test_a_match_is_one_row_by_the_headline(result) -> None:
    row = result.to_dataframe("match").iloc[0]
    assert (row.verdict, row.accuracy, row.accuracy_answered, row.success) == ("vote", 0.75, 0.0, 0.25)
    many = Results([result, replace(result, match=replace(result.match, attacker="other"))])
    assert many.to_dataframe().attacker.tolist() == ["square", "other"]
    assert len(many.to_dataframe("games")) == 4


def test_unknown_tables_are_told_what_is_allowed(result) -> None:
    with pytest.raises(ValueError, match='no table "game"; did you mean "games"'):
        result.to_dataframe("game")


def test_without_pandas_one_sentence_says_what_to_install(by_hand, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r'tables need pandas: pip install "blackbox-arena\[tables\]"'):
        by_hand(["budget"]).to_dataframe()
