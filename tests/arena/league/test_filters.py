"""Which matches a board is asked of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from arena.league.filters import BoardError, check_count, chosen, parse_filters
from arena.rules.threat import Threat


def source(counts: tuple[int, ...] = (5, 10), **threat: Any) -> Any:
    return SimpleNamespace(threat=Threat(**{"epsilon": "8/255", "budget": 10, **threat}), counts=counts)


ALL = [
    source(),
    source(norm="l2", epsilon=1.5),
    source(knowledge="defense", trust_answers=True),
    source(epsilon="inf", objective="minimum", norm="l2"),
]


def test_matches_are_chosen_by_the_rules_of_their_threats() -> None:
    assert chosen(ALL, {}) == ALL
    assert chosen(ALL, parse_filters(["norm=linf"])) == [ALL[0], ALL[2]]
    assert chosen(ALL, parse_filters(["norm=linf", "knowledge=none"])) == [ALL[0]]
    assert chosen(ALL, parse_filters(["trust_answers=true"])) == [ALL[2]]


@pytest.mark.parametrize(("said", "place"), [("8/255", 0), (str(8 / 255), 0), ("1.5", 1), ("inf", 3)])
def test_a_radius_may_be_written_as_in_a_scenario(said: str, place: int) -> None:
    assert ALL[place] in chosen(ALL, parse_filters([f"epsilon={said}"]))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["norm"], "KEY=VALUE"),
        (["norm="], "KEY=VALUE"),
        (["nrom=l2"], 'no rule "nrom"; did you mean "norm"?'),
        (["budget=10"], 'no rule "budget"'),
        (["norm=l1"], 'no match was played with "l1"'),
        (["knowledge=defence"], 'did you mean "defense"?'),
        (["epsilon=0"], "epsilon must be a positive number"),
        (["epsilon=0.5"], "allowed: 1.5, 8/255, inf"),
        (["norm=l2", "knowledge=defense"], 'no match was played with "defense"'),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence_with_what_there_is(words: list[str], says: str) -> None:
    with pytest.raises(BoardError) as error:
        chosen(ALL, parse_filters(words))
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_count_that_nobody_reports_names_those_near() -> None:
    check_count(ALL, 5)
    with pytest.raises(BoardError, match="no match reports verdicts at 7 queries; there are 5, 10"):
        check_count(ALL, 7)
    many = [source(counts=tuple(range(10, 1000, 10)))]
    with pytest.raises(BoardError, match=r"among others, are .*490, 500, 510"):
        check_count(many, 499)
