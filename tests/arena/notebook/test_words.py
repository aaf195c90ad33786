"""What is printed of a match."""

from __future__ import annotations

from typing import Any

import numpy as np

from arena.notebook.words import as_html, as_text
from arena.rules.threat import Threat

VOTED: dict[str, Any] = {
    "answers_are_facts": False,
    "verdict": "vote",
    "defender": "snd",
    "defender_params": {"defenders": [{"name": "snd", "sigma": 0.05}]},
}
GAMES: dict[str, Any] = {
    "answered": [True, True, False, False, False],
    "vote": [0.25, 0, 0, 0, 1.0],
    "hit_at": [3, 8, 0, 0, 0],
    "queries": [4, 9, 10, 10, 0],
}
REASONS = ["submitted", "submitted", "budget", "resigned", "clean"]


def test_a_result_is_short_and_headed_by_its_headline(by_hand) -> None:
    threat = Threat(epsilon=0.5, budget=10, objective="submit")
    result = by_hand(REASONS, {0: {"vote": [0.1] * 5}}, threat=threat, **GAMES, **VOTED)
    lines = repr(result).splitlines()
    assert lines == [
        "square against snd (sigma=0.05), net",
        "  rules          ℓ∞, epsilon 0.5 · budget 10 queries · feedback logits · untargeted · "
        "objective submit",
        "  games          5 images, 4 played; clean accuracy 80.0 % (72.0 % behind the defense)",
        "  accuracy left  75.0 % [33.6, 94.7] by vote; answered 40.0 %, base 80.0 %",
        "  success        6.2 % [0.4, 55.0] by vote; answered 50.0 %, base 0.0 %",
        "  queries        mean 8.2, median 9.5; to the first hit, median 5.5",
        "  ended          submitted 2, budget 1, resigned 1",
        "  ! 2 of 4 games the attacker ended with queries left, though their final images lose the vote",
    ]
    assert str(result) == repr(result)
    assert len(by_hand(["budget"] * 10_000)._repr_html_()) < 2_000


def test_where_answers_are_no_facts_the_first_hit_ranks_nobody(by_hand) -> None:
    text = as_text(by_hand(REASONS, **GAMES, **VOTED))
    assert (
        "accuracy left  40.0 % [11.8, 76.9] by answered and 75.0 % [33.6, 94.7] by vote; base 80.0 %" in text
    )
    assert "neither ranks them" in text
    assert "neither" not in as_text(by_hand(REASONS, **GAMES))


def test_verdicts_that_agree_are_one_figure(by_hand) -> None:
    same = by_hand(["hit", "budget"], answered=[True, False], vote=[1, 0], base=[True, False])
    assert "accuracy left  50.0 % [9.5, 90.5] by every verdict\n" in as_text(same)
    remembers = by_hand(["budget"] * 2, again=[1.0, 0.0], **VOTED)
    assert "by vote; base 100.0 %, again 50.0 %" in as_text(remembers) or "again 50.0 %" in as_text(remembers)


def test_where_no_game_was_played_there_is_no_success(by_hand) -> None:
    lines = as_text(by_hand(["clean"])).splitlines()
    assert lines[2:] == [
        "  games          1 image, 0 played; clean accuracy 0.0 %",
        "  accuracy left  0.0 % [0.0, 79.3] by every verdict",
        "  success        nothing is known",
        "  queries        none",
        "  ended          no game was played",
    ]


def test_the_minimum_is_headed_by_the_distance(by_hand) -> None:
    threat = Threat(norm="l2", epsilon="inf", budget=10, objective="minimum")
    result = by_hand(["budget"] * 20, l2=np.arange(20.0), answered=[True] * 20, threat=threat)
    assert "  median distance  9.5 [5, 14] by answered, ℓ2\n" in repr(result)


def test_failed_games_are_no_perfect_defense(by_hand) -> None:
    failed = as_text(by_hand(["error"] * 2 + ["stalled"], error="ValueError: no (x.py:3)"))
    assert "accuracy left  nothing is known: every game that was played failed (stalled 1, error 2)" in failed
    assert "100" not in failed.replace("clean accuracy 100.0 %", "")
    assert (
        "! stalled 1, error 2 of 3 games ended so that they say little about the defense; the first error: "
        "ValueError: no (x.py:3)"
    ) in failed
    some = as_text(by_hand(["no-start", "budget"]))
    assert "! no-start 1 of 2 games ended so" in some
    assert "100.0 % [34.2, 100.0] by every verdict" in some


def test_answers_outside_the_ball_are_told_where_they_explain_a_failure(by_hand) -> None:
    purposes = {"query": np.array([1200, 0, 0, 23, 1149])}
    told = "! 98 % of the wrong answers lay outside the ball (1,149 of 1,172)"
    assert told in as_text(by_hand(["budget"], purposes=purposes))
    assert told not in as_text(by_hand(["budget"], purposes=purposes, answered=[True]))
    labels = Threat(epsilon=0.5, budget=10, feedback="label")
    assert told in as_text(by_hand(["budget"] * 3, purposes=purposes, threat=labels))
    arrived = by_hand(["budget"] * 3, purposes=purposes, threat=labels, answered=[True, False, False])
    assert told not in as_text(arrived), "attacks on labels walk in from outside"
    most = {"query": np.array([1200, 0, 0, 1, 1149])}
    assert "! 99 % of" in as_text(by_hand(["budget"], purposes=most)), "100 % is all of them"


def test_html_escapes_what_agents_say(by_hand) -> None:
    html = as_html(by_hand(["error"], error="<script>"))
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
