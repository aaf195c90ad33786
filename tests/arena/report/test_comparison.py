"""Two runs on the same images, against counts done by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from arena.log import questions
from arena.report import comparison
from arena.report.comparison import compare, matched
from arena.report.summary import read_run


def won(game, image, **more):
    return game(image, "hit", 4, hit_at=4, votes=(0, 1, 1), base=True, l2=1.0, **more)


def lost(game, image, **more):
    return game(image, **more)


def compared(hand, one, other):
    return compare(hand.log, read_run(hand.log, one), read_run(hand.log, other))


def by(pair, what):
    return next(d for d in pair.differences if d.what == what)


def test_games_are_paired_by_image_whatever_their_order(hand, game):
    one, other = hand.run(), hand.run()
    hand.match(one, *(won(game, i) for i in range(10)), *(lost(game, i) for i in range(10, 20)))
    hand.match(
        other,
        *(lost(game, i) for i in range(19, 17, -1)),
        *(won(game, i) for i in range(17, 1, -1)),
        game(1, "clean", 0),
        lost(game, 50),
        lost(game, 0),
    )
    (pair,) = compared(hand, one, other).pairs
    assert (pair.games, pair.images, pair.only_one, pair.only_other, pair.at) == (19, 19, 1, 1, 10)
    answered = by(pair, "answered")
    assert (answered.one, answered.other) == pytest.approx((9 / 19, 16 / 19))
    assert answered.difference == pytest.approx(7 / 19)
    assert (answered.more, answered.less) == (8, 1), "10 to 17 rose, 0 fell"
    assert answered.p == pytest.approx(binomtest(1, 9).pvalue)
    assert answered.low < 7 / 19 < answered.high < 1
    assert answered.adjusted == pytest.approx(min(1, answered.p * 3)), "three verdicts were tested"
    assert {d.what for d in pair.differences} >= {"answered", "vote", "base"}


def test_a_match_that_both_runs_use_is_not_tested(hand, game):
    one, other = hand.run(), hand.run()
    hand.match(one, won(game, 0))
    hand.matches -= 1  # the same fingerprint: the log uses the match again
    hand.match(other)
    found = compared(hand, one, other)
    assert [pair.same for pair in found.pairs] == [True]
    assert found.tests == 0


def test_replays_and_votes_count_with_their_shares(hand, game):
    one, other = hand.run(), hand.run()
    for run, votes in ((one, (0.2, 0.4)), (other, (0.6, 0.4))):
        match = hand.match(run, repeats=2)
        for repeat, vote in enumerate(votes):
            hand.shard(match, [game(i, votes=(0, 0, vote)) for i in range(6)], repeat=repeat)
    (pair,) = compared(hand, one, other).pairs
    assert (pair.games, pair.images) == (12, 6)
    vote = by(pair, "vote")
    assert (vote.one, vote.other, vote.difference) == pytest.approx((0.3, 0.5, 0.2))
    assert (vote.more, vote.less, vote.p) == (6, 0, pytest.approx(2 / 64))


def test_other_budgets_are_compared_at_a_count_that_both_report(hand, game, threat):
    one, other = hand.run(), hand.run()
    hand.match(one, *(game(i, "hit", 8, hit_at=8, votes=(0, 0, 1), l2=1.0) for i in range(4)))
    longer = threat.with_budget(20)
    hand.match(other, *(won(game, i) for i in range(4)), threat=longer, at=(5, 20))
    (pair,) = compared(hand, one, other).pairs
    assert pair.at == 5
    assert (by(pair, "answered").one, by(pair, "answered").other) == (0, 1), "hits at 8 and at 4"
    assert ("threat.budget", 10, 20) in pair.differs or ("threat.budget", 10, 20) in compared(
        hand, one, other
    ).differs


def test_distances_are_compared_where_the_nearest_hit_counts(hand, game, threat):
    one, other = hand.run(), hand.run()
    near = threat.model_copy(update={"objective": "minimum"})
    far = [1.0, 2.0, 3.0, math.nan, math.nan, 4.0, 5.0]
    for run, fall in ((one, 0.0), (other, 0.25)):
        hand.match(
            run,
            *(
                game(i, hit_at=0 if math.isnan(d) else 4, l2=d - fall * d, votes=(0, 1, 1))
                for i, d in enumerate(far)
            ),
            threat=near,
        )
    (pair,) = compared(hand, one, other).pairs
    l2 = by(pair, "l2")
    assert (l2.one, l2.other) == (4.0, 3.0)
    assert l2.difference == -0.5, "of 0 (no hit in both), -.25, -.5, -.75, -1 and -1.25 the middle"
    assert (l2.more, l2.less, l2.p) == (0, 5, pytest.approx(2 / 32))
    assert l2.low <= -0.5 <= l2.high


def test_couples_agree_in_as_much_as_they_can(hand, game, threat):
    one, other = hand.run(), hand.run()
    small, large = {"attacker_params": {"p": 0.1}}, {"attacker_params": {"p": 0.3}}
    logits, label = threat, threat.model_copy(update={"feedback": "label"})
    sides = [
        [{**small, "threat": logits}, {**small, "threat": label}, {**large, "threat": logits}],
        [{**small, "threat": label}, {"attacker_params": {"p": 0.9}, "threat": logits}, {"defender": "snd"}],
    ]
    for run, side in zip((one, other), sides, strict=True):
        for number, changes in enumerate(side):
            hand.match(run, won(game, 0), number=number, **changes)
    mine, yours = (questions.matches(hand.log, run) for run in (one, other))
    couples, only_one, only_other = matched(mine, yours)
    assert [(a.info.number, b.info.number) for a, b in couples] == [(1, 0)]
    assert [m.info.number for m in only_one] == [0, 2], "both could be the counterpart of p = 0.9"
    assert [m.info.number for m in only_other] == [1, 2]
    couples, only_one, _ = matched(mine[1:], yours)
    assert [(a.info.number, b.info.number) for a, b in couples] == [(1, 0), (2, 1)]
    assert not only_one


def test_matches_on_other_data_are_no_counterparts(hand, game):
    one, other = hand.run(), hand.run()
    hand.match(one, won(game, 0))
    hand.match(other, won(game, 0), dataset_sha="another")
    found = compared(hand, one, other)
    assert not found.pairs and len(found.only_one) == len(found.only_other) == 1


def test_again_is_compared_where_every_game_was_asked_again(hand, game):
    run = hand.run()
    hand.match(run, won(game, 0), lost(game, 1))
    (match,) = questions.matches(hand.log, run)
    games = questions.outcomes(hand.log, match.id)
    assert "again" not in comparison._values(hand.log, match, games, np.arange(2), 10)
    asked = replace(games, again=np.array([0.0, 1.0]))
    assert comparison._values(hand.log, match, asked, np.arange(2), 10)["again"].tolist() == [0, 1]


def test_games_that_failed_are_counted_in_both_runs(hand, game):
    one, other = hand.run(), hand.run()
    hand.match(one, *(game(i, "error", 1) for i in range(3)))
    hand.match(other, game(0, "stalled", 1), *(lost(game, i) for i in (1, 2)))
    (pair,) = compared(hand, one, other).pairs
    assert pair.failed == (3, 1)
