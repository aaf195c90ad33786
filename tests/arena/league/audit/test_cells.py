"""The indicators that look at one cell, each on a planted failure and on a sound control."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from arena.league.audit.auditing import findings_of
from arena.league.audit.figures import exceeds
from arena.league.audit.still_improving import late_shares
from arena.league.audit.unstable import undecided
from arena.league.matrices import matrices
from arena.log.answers import PurposeCounts
from arena.rules.threat import Threat
from tests.arena.league.audit.hand import THREAT, N, renamed, said, source

FIRST, LABELS, MINIMUM = (
    THREAT.model_copy(update=change)
    for change in ({"objective": "first"}, {"feedback": "label"}, {"objective": "minimum"})
)


def only(indicator: str, **match: Any) -> Any:
    (finding,) = said(indicator, source(**match))
    return finding


def some(count: int, one: Any, other: Any) -> np.ndarray:
    return np.where(np.arange(N) < count, one, other)


def test_failed_games() -> None:
    broken = only("failed-games", reason=["no-start"] * 3 + ["error"] * 2 + ["budget"] * (N - 5))
    assert broken.status == "found"
    assert broken.grave
    assert (
        "5 of 40 games, 12 % [5, 26] failed without a hit (2 with error, 3 with no-start)" in broken.evidence
    )
    assert (broken.attacker, broken.defender) == ("square", "none")
    assert only("failed-games").status == "clear"


def test_a_game_that_failed_after_its_hit_was_won() -> None:
    reasons = ["error"] * 5 + ["budget"] * (N - 5)
    assert only("failed-games", won=5, reason=reasons).status == "clear"


def test_wrong_answers_outside_the_ball() -> None:
    stray = (PurposeCounts("search", 1000, 0, 0, 100, 300), PurposeCounts("start", 40, 0, 0, 0, 10))
    found = only("outside-ball", asked=stray)
    assert found.status == "found"
    assert found.grave
    assert "310 of 410 wrong answers" in found.evidence
    assert only("outside-ball", asked=stray, won=30).status == "clear"  # it hits all the same
    assert only("outside-ball").status == "clear"
    unknown = only("outside-ball", asked=(PurposeCounts("search", 9, 0, 0, None, None),))
    assert unknown.status == "unchecked"


def test_labels_walk_in_from_outside() -> None:
    stray = (PurposeCounts("search", 1000, 0, 0, 100, 300),)
    assert only("outside-ball", asked=stray, threat=LABELS, won=1, needs="label").status == "clear"
    needed = {"asked": stray, "needs": "label"}
    assert only("outside-ball", threat=LABELS, **needed).status == "found"
    # An attack that needs no more than labels does so under any feedback.
    assert only("outside-ball", won=1, **needed).status == "clear"
    assert only("outside-ball", asked=stray, won=1).status == "found"
    assert said("outside-ball", source(asked=stray, threat=MINIMUM)) == []


def test_stopped_early() -> None:
    lucky = some(10, 0.2, 0.0)
    own = {"won": lucky, "facts": False, "queries": some(10, 40, 100)}
    found = only("stopped-early", **own, reason=["submitted"] * 10 + ["budget"] * 30)
    assert found.status == "found"
    assert found.grave
    assert "10 of 40 games" in found.evidence
    assert "60 queries early" in found.evidence
    assert only("stopped-early", **own, reason=["budget"] * N).status == "clear"  # the referee ended them
    assert said("stopped-early", source()) == []  # answers are facts
    rule = only("stopped-early", **own, reason=["hit"] * 10 + ["budget"] * 30, threat=FIRST)
    assert rule.status == "found"
    assert "objective `first`" in rule.advice


def test_an_attack_that_stops_where_it_wins_did_not_stop_early() -> None:
    assert only("stopped-early", won=30, facts=False).status == "clear"


def test_facts_that_are_none() -> None:
    """A defender that says that it neither draws nor remembers, and answers a new client otherwise."""
    asked = {"answered": np.arange(N) < 20, "reason": ["budget"] * N}
    found = only("not-facts", won=17, **asked)
    assert (found.status, found.grave) == ("found", True)
    assert "3 of 20 games with a hit" in found.evidence
    assert only("not-facts", won=20, **asked).status == "clear"
    assert said("not-facts", source(won=17, **{**asked, "reason": ["submitted"] * N})) == []
    assert said("not-facts", source(won=17, facts=False, **asked)) == []


def test_silent_success() -> None:
    found = only("silent-success", answered=np.arange(N) < 8)
    assert found.status == "found"
    assert not found.grave
    assert "8 of 40 games" in found.evidence
    assert "hand in the image" in found.advice
    luck = only("silent-success", answered=np.arange(N) < 8, facts=False)
    assert luck.status == "found"
    assert "luck" in luck.advice
    assert only("silent-success", won=20).status == "clear"


def test_an_image_that_fools_the_classifier_alone_is_no_silent_success() -> None:
    early = np.arange(N) < 8
    assert only("silent-success", answered=early, base=early, facts=False).status == "clear"


def test_unstable_votes() -> None:
    found = only("unstable-votes", won=[13 / 25] * 10 + [0.0] * 15 + [1.0] * 15, facts=False)
    assert found.status == "found"
    assert "10 of 40 votes" in found.evidence
    assert only("unstable-votes", won=[21 / 25] * 20 + [0.0] * 20, facts=False).status == "clear"
    assert said("unstable-votes", source()) == []
    none = only("unstable-votes", facts=False, asked_a=np.zeros(N, int), asked_b=np.zeros(N, int))
    assert none.status == "unchecked"


def test_undecided_is_the_exact_interval() -> None:
    for asked in (1, 2, 5, 25, 60):
        wrong = np.arange(asked + 1)
        inside = [
            (ci := binomtest(k, asked).proportion_ci(0.95, method="exact")).low <= 0.5 <= ci.high
            for k in wrong.tolist()
        ]
        assert undecided(wrong, np.full(asked + 1, asked)).tolist() == inside


def test_late_shares() -> None:
    columns = [10, 10, 5, 5, np.nan, -3], [4, 2, 5, 7, 1, 4], [2, 2, 5, 1, 1, 4]
    first, late, best = (np.array(column) for column in columns)
    assert late_shares(first, late, best).tolist()[:4] == [0.25, 0.0, 0.0, 1.0]
    assert np.isnan(late_shares(first, late, best)[4:]).all()


def test_still_improving() -> None:
    late = np.full(N, 3.0)
    found = only("still-improving", won=10, margin_late=late)
    assert found.status == "found"
    assert "12 % [10, 24] of the improvement" in found.evidence  # (3 - 2) / (10 - 2)
    assert "30 games" in found.evidence  # those won are not asked
    assert only("still-improving", won=10).status == "clear"
    assert only("still-improving", won=10, margin_late=np.full(N, 2.1)).status == "clear"
    unknown = only("still-improving", margin_first=np.full(N, np.nan))
    assert unknown.status == "unchecked"
    assert only("still-improving", won=N).status == "clear"


def test_margins_of_an_attack_from_outside_tell_nothing() -> None:
    stray = (PurposeCounts("search", 1000, 0, 0, 100, 300),)
    assert only("still-improving", asked=stray, needs="label").status == "unchecked"
    assert only("still-improving", needs="label").status == "clear"


def test_distances_still_falling() -> None:
    own = {"threat": MINIMUM, "won": N, "queries": np.full(N, 100)}
    far = only("still-improving", **own, distance_late=np.full(N, 0.28))  # (.28 - .1) / (1 - .1)
    assert far.status == "found"
    assert "20 % [18, 28]" in far.evidence
    assert only("still-improving", **own, facts=False).status == "unchecked"  # it claims another image
    assert only("still-improving", **own).status == "clear"


def test_how_it_went_is_not_told_of_earlier_counts() -> None:
    whole = source(margin_late=np.full(N, 3.0))
    early = renamed(whole, at=(50,))
    played = [early, source("other", threat=THREAT.with_budget(50))]
    (at_50,) = matrices(played, [50])
    findings = findings_of(played)(at_50)
    statuses = {(f.attacker, f.status) for f in findings if f.indicator == "still-improving"}
    assert statuses == {("square", "unchecked"), ("other", "clear")}


def test_duplicates() -> None:
    found = only("duplicates", duplicates=np.full(N, 60.0))
    assert found.status == "found"
    assert "60 % of 4,000 queries" in found.evidence
    assert only("duplicates", duplicates=np.full(N, 2.0)).status == "clear"
    assert only("duplicates", duplicates=np.full(N, np.nan)).status == "unchecked"
    # Where answers are no facts, repeats are how luck is told from success.
    assert said("duplicates", source(duplicates=np.full(N, 60.0), facts=False)) == []


def test_before_alarm() -> None:
    late = some(24, 80.0, np.nan)
    found = only("before-alarm", won=30, alarm_at=late, flagged=some(24, 2.0, 0.0))
    assert found.status == "found"
    assert "30 of 30 games with a hit" in found.evidence
    assert "at query 30" in found.evidence
    soon = only("before-alarm", won=30, alarm_at=np.full(N, 3.0), flagged=np.ones(N))
    assert soon.status == "clear"
    seldom = {"alarm_at": late, "flagged": some(3, 1.0, 0.0)}
    assert said("before-alarm", source(won=30, **seldom)) == []  # no detector: .2 % of its queries
    assert only("before-alarm", won=30, flagged=np.full(N, np.nan)).status == "unchecked"


def test_a_hit_at_the_alarm_is_not_before_it() -> None:
    assert only("before-alarm", won=30, alarm_at=np.full(N, 30.0), flagged=np.ones(N)).status == "clear"


@pytest.mark.parametrize("threat", [THREAT, FIRST, LABELS, MINIMUM, Threat(epsilon=0.1, budget=1)])
def test_games_lost_before_they_began_accuse_nobody(threat: Threat) -> None:
    clean = source(won=N, reason=["clean"] * N, queries=np.zeros(N, np.int64), threat=threat, facts=False)
    (matrix,) = matrices([clean])
    assert all(one.status != "found" for one in findings_of([clean])(matrix))


def test_an_attacker_that_is_a_control_may_do_badly() -> None:
    own = {"attacker": "noise", "answered": np.arange(N) < 8, "duplicates": np.full(N, 60.0)}
    assert said("silent-success", source(**own)) == []
    assert said("duplicates", source(**own)) == []
    assert [f.status for f in said("failed-games", source(**own, reason=["error"] * N))] == ["found"]


def test_one_of_few_is_no_sign() -> None:
    assert not exceeds(1, 10, 0.05)
    assert exceeds(2, 10, 0.05)
    assert not exceeds(2, 40, 0.05)
    assert exceeds(3, 40, 0.05)
