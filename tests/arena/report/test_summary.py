"""The numbers of a report, against sums done by hand and against SQL."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from arena.league.rates import rate, standing
from arena.log import LogError, open_log, questions
from arena.log.answers import LoggedMarks
from arena.report.summary import VERDICTS, progress, read_rows, read_run


def wilson(successes: int, n: int) -> tuple[float, float]:
    interval = binomtest(successes, n).proportion_ci(method="wilson")
    return interval.low, interval.high


def test_a_match_in_numbers(hand, game):
    run = hand.run()
    hand.match(
        run,
        game(0, "clean", 0, votes=(1, 1, 1), base=True),
        game(1, "hit", 3, hit_at=3, accepted_at=3, votes=(0, 0.6, 0.6), base=True, l2=1.0),
        game(2, "hit", 8, hit_at=8, votes=(0.2, 0.2, 1), l2=1.4, refused=2),
        game(3, insider=4),
        game(4, "resigned", 6),
    )
    (row,) = read_rows(hand.log, run)
    assert (row.drawn, row.played, row.shards) == (5, 4, 1)
    assert row.clean.value == 4 / 5
    left = {at: {v: r.value for v, r in rates.items()} for at, rates in row.left.items()}
    assert left[0] == pytest.approx({"answered": 4 / 5, "vote": (1 + 0.8 + 2) / 5, "base": 4 / 5})
    assert left[5] == pytest.approx({"answered": 3 / 5, "vote": (0.4 + 0.8 + 2) / 5, "base": 3 / 5})
    assert left[10] == pytest.approx({"answered": 2 / 5, "vote": (0.4 + 0 + 2) / 5, "base": 3 / 5})
    assert row.headline == row.left[10]["answered"]
    success = {v: r.value for v, r in row.success.items()}
    assert success == pytest.approx({"answered": 2 / 4, "vote": 1.6 / 4, "base": 1 / 4})
    assert row.accepted.value == 1 / 4
    assert (row.hit_mean, row.hit_median) == (5.5, 5.5)
    assert (row.queries_mean, row.queries_median) == (27 / 4, 7)
    assert row.distance_median == math.inf, "two of four games have no hit, and count as infinitely far"
    assert (row.queries, row.refused, row.insider) == (27, 2, 4)
    assert row.reasons == {"clean": 1, "hit": 2, "budget": 1, "resigned": 1}
    assert not row.broken


def test_intervals_are_wilsons(hand, game):
    run = hand.run()
    won = [game(i, "hit", 4, hit_at=4, votes=(0, 1, 1), base=True, l2=1) for i in range(3)]
    hand.match(run, *won, *(game(i) for i in range(3, 10)), game(10, "clean", 0, votes=(1, 1, 1)))
    (row,) = read_rows(hand.log, run)
    for verdict in VERDICTS:
        assert (row.success[verdict].low, row.success[verdict].high) == pytest.approx(wilson(3, 10))
        assert (row.left[10][verdict].low, row.left[10][verdict].high) == pytest.approx(wilson(7, 11))
    assert (row.clean.low, row.clean.high) == pytest.approx(wilson(10, 11))


def test_replays_of_an_image_count_as_one_image(hand, game):
    run = hand.run()
    match = hand.match(run, repeats=2)
    won = game(0, "hit", 4, hit_at=4, votes=(0, 1, 1), l2=1)
    hand.shard(match, [won, game(1), game(2)], repeat=0)
    hand.shard(match, [won, game(1), game(2)], repeat=1)
    (row,) = read_rows(hand.log, run)
    assert (row.drawn, row.shards) == (6, 2)
    assert row.success["answered"].value == pytest.approx(1 / 3)
    assert (row.success["answered"].low, row.success["answered"].high) == pytest.approx(wilson(1, 3))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_a_rate_lies_in_its_interval(values):
    found = rate(np.array(values), np.arange(len(values)))
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1


def test_a_rate_of_nothing_is_nothing():
    found = rate(np.array([]), np.array([], np.int64))
    assert math.isnan(found.value)
    assert (found.low, found.high) == (0, 1)


def test_a_match_that_the_classifier_lost_wholly(hand, game):
    run = hand.run()
    hand.match(run, *(game(i, "clean", 0, votes=(1, 1, 1), base=True) for i in range(3)))
    (row,) = read_rows(hand.log, run)
    assert (row.played, row.clean.value, row.headline.value) == (0, 0, 0)
    assert math.isnan(row.success["answered"].value)
    assert math.isnan(row.queries_mean)
    assert math.isnan(row.distance_median)


def test_a_match_without_finished_games(hand):
    run = hand.run(ended=False)
    hand.match(run)
    (row,) = read_rows(hand.log, run)
    assert (row.drawn, row.shards, row.begun) == (0, 0, 0)
    assert math.isnan(row.headline.value)


def test_clean_images_are_judged_by_the_target(hand, game, threat):
    run = hand.run()
    targeted = threat.model_copy(update={"goal": "targeted"})
    hand.match(run, game(0, target=4), threat=targeted)
    (row,) = read_rows(hand.log, run)
    assert row.left[0]["vote"].value == 1, "none of them is answered with the target"


def test_what_went_wrong_is_told(hand, game):
    run = hand.run()
    hand.match(run, game(0, "error", 2, error="ValueError: no (a.py:3)"), game(1, "stalled"), game(2))
    (row,) = read_rows(hand.log, run)
    assert row.broken == {"error": 1, "stalled": 1}
    assert row.trouble == "ValueError: no (a.py:3)"


def test_progress_counts_shards_that_have_not_begun(hand, game):
    described = {"games": 10, "drawn": 13, "shard": 4, "repeats": 2}
    run = hand.run(ended=False, resolved={"matches": [described, described]})
    match = hand.match(run)
    hand.shard(match, [game(i) for i in range(4)])
    rows = read_rows(hand.log, run)
    done = progress(read_run(hand.log, run), rows)
    assert (done.finished, done.expected) == (1, 16)


def test_the_last_run_unless_one_is_named(hand):
    with pytest.raises(LogError, match=r"hand\.db holds no run"):
        read_run(hand.log)
    first, second = hand.run(), hand.run(title="Again")
    assert read_run(hand.log).id == second
    assert read_run(hand.log, first).info.title == "By hand"
    with pytest.raises(LogError, match=r"hand\.db has no run 9; it holds 1, 2"):
        read_run(hand.log, 9)


@pytest.mark.parametrize("objective", ["first", "submit"])
def test_a_played_match_agrees_with_sums_in_sql(play, objective):
    threat = {"epsilon": 0.3, "budget": 30, "objective": objective}
    with open_log(play(threat=threat), create=False) as log:
        rows = read_rows(log, 1)
        assert [row.match.info.defender for row in rows] == ["none", "snd"]
        for row in rows:
            of_match = f"FROM finished_games WHERE match_id = {row.match.id}"
            played = f"{of_match} AND reason <> 'clean'"
            ((drawn,),) = questions.sql(log, f"SELECT count(*) {of_match}").rows
            games = questions.sql(log, f"SELECT queries, linf, hit_at {played}").rows
            assert (row.drawn, row.played) == (drawn, len(games))
            assert row.queries_median == statistics.median(queries for queries, _, _ in games)
            won = "vote > 0.5" if row.match.info.defender == "snd" else "linf IS NOT NULL"
            sides = questions.sql(log, f"SELECT CASE WHEN {won} THEN linf END {played}").rows
            far = [math.inf if linf is None else linf for (linf,) in sides]
            assert row.distance_median == pytest.approx(statistics.median(far))
            assert sorted(row.left) == [0, 5, 10, 30]
            for verdict in VERDICTS:
                ((lost,),) = questions.sql(log, f"SELECT sum({verdict}) {played}").rows
                assert row.success[verdict].value == pytest.approx(lost / len(games))
                assert row.left[30][verdict].value == pytest.approx((len(games) - lost) / drawn)
                for at in (0, 5, 10):
                    held = f"SELECT sum(m.{verdict}) FROM finished_marks m JOIN (SELECT id {played}) g "
                    ((lost,),) = questions.sql(log, f"{held} ON g.id = m.game_id WHERE m.at = {at}").rows
                    assert row.left[at][verdict].value == pytest.approx((len(games) - lost) / drawn)
            assert any(row.curve.lost), "an attack with this radius wins some games"
            hits = [hit for *_, hit in games if hit is not None]
            assert (row.hit_median, row.hit_mean) == (statistics.median(hits), statistics.mean(hits))


def test_a_verdict_holds_until_the_next():
    rng = np.random.default_rng(0)
    marks = [(at, game) for at in (0, 3, 6, 9) for game in range(30) if at == 0 or rng.random() < 0.5]
    at, game = np.array(marks).T
    nothing = np.zeros(len(marks))
    told = LoggedMarks(
        at, game, at, nothing > 0, rng.random(len(marks)), *[at] * 4, nothing, nothing > 0, *[nothing] * 3
    )
    standing_now: dict[int, float] = {}
    for upto in (0, 3, 6, 9):
        standing_now |= {g: v for a, g, v in zip(at, game, told.vote, strict=True) if a == upto}
        games = rng.permutation(31)  # the last of which has no marks
        row = standing(games, told, upto)
        assert (row == -1).tolist() == (games == 30).tolist()
        assert told.vote[row[row >= 0]].tolist() == [standing_now[g] for g in games if g != 30]


def test_a_played_run_holds_the_utility_of_every_match(play):
    with open_log(play(utility=80), create=False) as log:
        first, second = (row.utility for row in read_rows(log, 1))
    assert (first.images, second.images) == (80, 80)
    assert first.agreement == 1
    with open_log(play(utility=0), create=False) as log:
        assert [row.utility for row in read_rows(log, 1)] == [None, None]
