"""The sentences on top: what was found, and no more than the intervals tell."""

from __future__ import annotations

import pytest

from arena.report.findings import findings, headline_of, notices
from arena.report.groups import grouped
from arena.report.summary import read_rows
from arena.rules.threat import Threat

LUCKY = {"defender": "snd", "verdict": "vote", "answers_are_facts": False}


@pytest.fixture
def group(hand, game):
    """A group of matches: one list of games and changes each."""

    def group(*matches, objective="submit", **threat):
        run = hand.run()
        rules = Threat(**{"norm": "l2", "epsilon": 1.5, "budget": 10, "objective": objective, **threat})
        for number, (games, changes) in enumerate(matches):
            words = {"attacker": "square", "defender": "none", **changes}
            titles = {"attacker_title": words["attacker"], "defender_title": words["defender"]}
            hand.match(run, *games, number=number, **{"threat": rules, **titles, **words})
        (found,) = grouped(read_rows(hand.log, run))
        return found

    return group


@pytest.fixture
def games(game):
    """Games of which so many are won, by votes with a share, at query 3 of 10."""

    def games(won: int, lost: int, vote: float = 1.0, **changes):
        hit = {
            "reason": "submitted",
            "queries": 3,
            "hit_at": 3,
            "votes": (0, vote, vote),
            "l2": 1.0,
            **changes,
        }
        return [game(i, **hit) for i in range(won)] + [game(won + i) for i in range(lost)]

    return games


def test_defenders_are_compared_by_their_headlines_and_only_where_intervals_part(group, games):
    kept = {**LUCKY, "defender": "rnd"}
    found = findings(
        group(
            (games(40, 10), {}),
            (games(40, 10, vote=0.1), LUCKY),
            (games(24, 26), kept),
            (games(10, 40), {"attacker": "nes"}),
            (games(45, 5), {"defender": "jpeg"}),
        )
    )
    assert found[0] == (
        "Accuracy left after 10 queries against the strongest of 2 attackers, with 95 % intervals: "
        "none 20.0 % [11, 33] (square), snd 92.0 % [81, 97] by vote (square), "
        "rnd 52.0 % [39, 65] by vote (square), jpeg 10.0 % [4, 21] (square)."
    )
    assert found[1] == (
        "snd and rnd keep more than no defense; whether jpeg keeps more is open (95 % intervals overlap)."
    )
    assert found[2:] == ["Counting lucky answers (answered), the same games would leave snd 20.0 %."], (
        "every win over rnd won its vote"
    )


def test_where_answers_are_facts_no_verdict_is_named(group, games):
    (found,) = findings(group((games(3, 1), {})))
    assert found == "Accuracy left after 10 queries against square, with 95 % intervals: none 25.0 % [5, 70]."


def test_under_objective_first_lucky_answers_and_votes_are_two_ends(group, games):
    own = group(
        (games(30, 20, vote=0.2), LUCKY), (games(10, 40), {**LUCKY, "attacker": "nes"}), objective="first"
    )
    (found,) = findings(own)
    assert found.startswith("Between two ends, answered and vote: snd from 40.0 to 80.0 %.")
    assert not own.ranked(0) and own.worst(0) is None
    assert not any(own.is_worst(row, 0) for row in own.rows)


def test_two_ends_that_are_equal_are_one_figure(group, games):
    (found,) = findings(group((games(30, 20), LUCKY), objective="first"))
    assert found == "By answered and by vote alike: snd 40.0 %."


def test_a_papers_own_headline_is_said(group, games):
    paper = {**LUCKY, "verdict": "answered"}
    assert headline_of(group((games(1, 1), paper))) == [
        "This page keeps the paper's headline: what is left by answered."
    ]
    assert headline_of(group((games(1, 1), LUCKY), (games(1, 1), {}))) == []


def test_distances_are_those_of_images_that_win_their_vote(group, games):
    fast = games(30, 0, vote=0.2)
    (kept, lucky) = findings(group((fast, LUCKY), objective="minimum", epsilon="inf"))
    assert kept == (
        "Median ℓ2 distance, by vote, after 10 queries against square, with 95 % intervals: snd ∞ [∞, ∞]."
    )
    assert lucky == "Counting lucky answers (answered), the same games would leave snd 1."


def test_of_attackers_that_leave_no_median_the_one_that_may_leave_one_counts(group, games):
    sure, vague = games(1, 29), games(14, 16)
    own = group(
        (games(20, 10), {}),
        (sure, {"defender": "jpeg"}),
        (vague, {"defender": "jpeg", "attacker": "nes"}),
        objective="minimum",
        epsilon="inf",
    )
    found = findings(own)
    assert "jpeg ∞ [1, ∞] (nes)" in found[0]
    assert found[1] == "Whether jpeg keeps more than no defense is open (95 % intervals overlap)."


def test_failed_attackers_are_no_strength(group, game, games):
    broke = [game(i, "error", 2, error="KeyError: 3 (mine.py:7)") for i in range(20)]
    some = [*games(10, 5), *(game(20 + i, "no-start", 1) for i in range(5))]
    own = group((games(15, 5), {}), (broke, LUCKY), (some, {"defender": "jpeg"}))
    found = findings(own)
    assert "snd" not in found[0], "nothing is known of it"
    assert "jpeg at most 50.0 %" in found[0]
    assert found[1] == "Whether jpeg keeps more than no defense is open."
    assert found[-1] == (
        "Failed games, marked !: of the 40 games of 2 matches 20 ended with error and 5 with no-start; "
        "what is left there is an upper bound."
    )
    said = [text for row in own.rows for text in notices(row)]
    assert said == [
        "square against snd: of 20 games 20 ended with error, so that nothing is known of what is left; "
        "the first: KeyError: 3 (mine.py:7)",
        "square against jpeg: of 20 games 5 ended with no-start",
    ]
    assert own.worst(1) is None and own.rows[1].hollow


def test_a_defender_is_not_praised_for_an_attacker_that_failed_beside_a_weak_one(group, game, games):
    broke = [game(i, "stalled", 2) for i in range(50)]
    own = group(
        (games(40, 10), {}),
        (games(1, 49), {"defender": "jpeg"}),
        (broke, {"defender": "jpeg", "attacker": "nes"}),
    )
    assert findings(own)[1] == "Whether jpeg keeps more than no defense is open."


def test_games_that_end_early_and_lose_their_votes_are_counted(group, game, games):
    own = group(
        (
            [
                *games(3, 2, vote=0.5),
                game(5, "hit", 4, hit_at=4, votes=(0, 0.51, 0.51), l2=1.0),
                game(6, "resigned", 4),
                game(7, "submitted", 10, hit_at=2, votes=(0, 0.1, 0.1), l2=1.0),
                game(8, "error", 4),
            ],
            LUCKY,
        ),
        (games(2, 2), {}),
    )
    assert [row.lost_early for row in own.rows] == [3 + 1, 0], (
        "a vote of one half is lost, a whole budget is no haste"
    )


@pytest.mark.parametrize(
    ("feedback", "hits", "told"),
    [("logits", 0, True), ("logits", 2, True), ("logits", 4, False), ("label", 0, True), ("label", 1, False)],
)
def test_answers_outside_the_ball_are_told_where_few_came_inside(
    group, game, asked, hits, feedback, told, hand
):
    run = hand.run()
    rules = Threat(norm="l2", epsilon=1.5, budget=60, feedback=feedback)
    games = [game(i, "hit", 3, hit_at=3, votes=(0, 1, 1), l2=1) for i in range(hits)]
    games += [game(hits + i) for i in range(5 - hits)]
    queries = [asked("start", 3, 0), asked("step", 50, 0, 4, outside=49)]
    hand.match(run, *games, queries=queries, threat=rules)
    (row,) = read_rows(hand.log, run)
    said = [text for text in notices(row) if "outside" in text]
    assert bool(said) == told
    if told:
        assert said[0].startswith(
            "square against none: 100 % of the 49 wrong answers lay outside the ball "
            "(most of them asked for step)"
        )
