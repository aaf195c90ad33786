"""The matches that a run consists of: its own, and those of earlier runs that are used again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from arena.log import Log, open_log, questions
from arena.records.runs import MatchInfo, RunInfo


def shown(log: Log, run: int) -> list[tuple[int, int, MatchInfo]]:
    return [(m.id, m.run_id, m.info) for m in questions.matches(log, run)]


def test_a_later_run_uses_the_same_match_again_under_words_of_its_own(
    log: Log, run_info: RunInfo, match_info: MatchInfo
) -> None:
    first, second = log.begin_run(run_info), log.begin_run(replace(run_info, fingerprint="second"))
    match = log.begin_match(first, match_info)
    other = log.begin_match(second, replace(match_info, fingerprint="other"))
    said = replace(match_info, number=4, title="t", block="b", radii=(0.5,), verdict="base", utility=0)
    assert log.begin_match(second, said) == match != other
    assert shown(log, second)[1] == (match, first, said)
    assert shown(log, first) == [(match, first, match_info)]
    assert questions.match(log, match).info == match_info, "as its first run shows it"
    twice = replace(match_info, number=9)
    assert log.begin_match(second, twice) == match, "one scenario may hold one match under several titles"
    assert [m[0] for m in shown(log, second)] == [other, match, match]
    log.record_words(second, 4, {"title": "new", "radii": (1, float("inf"))})
    assert shown(log, second)[1][2] == replace(said, title="new", radii=(1.0, float("inf")))
    assert shown(log, second)[2][2] == twice
    assert shown(log, first) == [(match, first, match_info)]


def test_a_fresh_run_uses_its_own_matches_alone(log: Log, run_info: RunInfo, match_info: MatchInfo) -> None:
    match = log.begin_match(log.begin_run(run_info), match_info)
    run = log.begin_run(run_info)
    fresh = log.begin_match(run, match_info, fresh=True)
    assert fresh != match
    assert log.begin_match(run, replace(match_info, number=1), fresh=True) == fresh
    assert [m[:2] for m in shown(log, run)] == [(fresh, run), (fresh, run)]


def test_of_several_the_same_the_one_furthest_is_used(
    log: Log, run_info: RunInfo, match_info: MatchInfo, made: Callable[..., Any]
) -> None:
    def begin(fresh: bool = False) -> int:
        return log.begin_match(log.begin_run(run_info), match_info, fresh)

    first, second, third = begin(), begin(fresh=True), begin(fresh=True)
    assert len({first, second, third}) == 3
    assert begin() == third, "the newest, where none is further"
    for match, shards in ((second, 2), (first, 1)):
        for number in range(shards):
            with log.shard(match, number, 0, "f", made().keys) as listener:
                made().tell(listener)
    unfinished = log.shard(third, 0, 0, "f", made().keys)
    with pytest.raises(KeyboardInterrupt), unfinished as listener:
        raise KeyboardInterrupt
    assert begin() == second


def test_unfinished_shards_are_discarded_by_match(log: Log, begun: Any, made: Callable[..., Any]) -> None:
    match, other = begun(log, 0), begun(log, 1)
    for own in (match, other):
        with pytest.raises(KeyboardInterrupt), log.shard(own, 0, 0, "f", made().keys):
            raise KeyboardInterrupt
    assert log.discard_unfinished(match) == 1
    assert log.discard_unfinished(match) == 0
    assert log.discard_unfinished(other) == 1


def test_a_match_that_another_run_is_playing_is_shared(
    where: str, run_info: RunInfo, match_info: MatchInfo, made: Callable[..., Any]
) -> None:
    with open_log(where) as log, open_log(where) as other:
        first, second = log.begin_run(run_info), other.begin_run(replace(run_info, fingerprint="second"))
        match = log.begin_match(first, match_info)
        with log.shard(match, 0, 0, "f", made().keys) as playing:
            assert other.begin_match(second, match_info) == match
            assert other.discard_unfinished(match) == 0, "who plays it lives"
            made().tell(playing)
        assert other.finished_shards(match) == {(0, 0): "f"}


def test_a_run_that_was_begun_afresh_goes_on_so(log: Log, run_info: RunInfo, match_info: MatchInfo) -> None:
    old = log.begin_match(log.begin_run(run_info), match_info)
    run = log.begin_run(replace(run_info, resolved={"fresh": True}))
    assert log.begin_match(run, match_info) != old
    assert [m[1] for m in shown(log, run)] == [run]


def test_texts_that_no_database_takes_are_written_as_near_as_can_be(
    log: Log, run_info: RunInfo, match_info: MatchInfo
) -> None:
    odd = "a\0b \ud800"
    run = log.begin_run(replace(run_info, title=odd))
    facts = {"defenders": [{odd: [odd, float("nan"), {"deep": odd}]}]}
    params = {"text": odd}
    log.begin_match(run, replace(match_info, attacker_title=odd, facts=facts, attacker_params=params))
    ((_, _, info),) = shown(log, run)
    assert info.attacker_title == info.attacker_params["text"] == "a\ufffdb ?"
    assert info.facts == {"defenders": [{"a\ufffdb ?": ["a\ufffdb ?", "nan", {"deep": "a\ufffdb ?"}]}]}
