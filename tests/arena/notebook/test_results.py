"""Several results: the matrix, and the way to each of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from arena.notebook.results import Results
from arena.rules.threat import Threat

VOTED: dict[str, Any] = {"answers_are_facts": False, "verdict": "vote", "defender": "snd"}
SUBMIT = Threat(epsilon=0.5, budget=10, objective="submit")


@pytest.fixture
def results(by_hand):
    def made(attacker: str, reasons: list[str], **more: Any):
        return by_hand(reasons, {0: {"vote": [0.25] * 4}}, threat=SUBMIT, attacker=attacker, **more)

    won: dict[str, Any] = {"answered": [True, True, True, False], "vote": [0.5, 0, 0, 0]}
    return Results(
        [
            made("square", ["submitted"] * 3 + ["budget"], **won),
            made("square", ["budget"] * 4, **won, **VOTED),
            made("mine", ["error"] * 4, error="ValueError: no (x.py:3)"),
            made("mine", ["error"] + ["budget"] * 3, error="ValueError: no (x.py:3)", **VOTED),
        ]
    )


def test_the_matrix_is_headed_by_each_defender_s_verdict(results) -> None:
    lines = repr(results).splitlines()
    assert lines[0].startswith("accuracy left in percent [95 %]; ℓ∞, epsilon 0.5 · budget 10 queries")
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[1:5]]
    assert cells == [
        ["attacker", "none (answered)", "snd (vote; answered)"],
        ["(no attack)", "75.0", "75.0"],
        ["square", "25.0 [5, 70]", "87.5 [40, 99]; 25.0"],
        ["mine", "failed", "100.0 [51, 100]; 100.0 !"],
    ]
    assert "mine against none: error 4 of 4 games" in lines[5]
    html = results._repr_html_()
    assert "<th>snd (vote; answered)</th>" in html
    assert "87.5 [40, 99]; 25.0" in html
    assert repr(Results([])) == Results([])._repr_html_() == "no results"


def test_first_hits_against_what_is_no_fact_are_two_ends(by_hand) -> None:
    won: dict[str, Any] = {"answered": [True, False], "vote": [0.5, 0]}
    text = repr(Results([by_hand(["hit", "budget"], {0: {}}, **won, **VOTED)]))
    assert "snd (answered to vote, unranked)" in text
    assert "50.0 to 75.0" in text


def test_the_minimum_is_a_matrix_of_distances(by_hand) -> None:
    threat = Threat(norm="l2", epsilon="inf", budget=10, objective="minimum")
    near = by_hand(["budget"] * 20, {0: {}}, l2=np.arange(20.0), answered=[True] * 20, threat=threat)
    text = repr(Results([near]))
    assert text.startswith("median ℓ2 distance [95 %]")
    assert "9.5 [5, 14]" in text


def test_a_result_is_found_by_its_pair_and_missed_with_what_there_is(results) -> None:
    assert len(results) == 4
    assert results["square", "snd"].accuracy() == 0.875
    assert (results.attackers, results.defenders) == (["square", "mine"], ["none", "snd"])
    with pytest.raises(KeyError, match=r'no "snds" here; did you mean'):
        results["square", "snds"]
    with pytest.raises(KeyError, match="allowed: mine, square"):
        results["squares", "snd"]
    with pytest.raises(KeyError, match="go by attacker and defender"):
        results["square"]
    assert list(dict(results)) == list(results)
    assert isinstance(results["square", "none"], type(replace(results["square", "none"])))
