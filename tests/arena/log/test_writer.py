"""Runs and matches come back as they were recorded, and are found again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch

from arena.log import Log, LogError, open_log, questions
from arena.records.runs import MatchInfo, RunInfo


def test_runs_come_back(log: Log, run_info: RunInfo) -> None:
    before = datetime.now(UTC).replace(tzinfo=None)
    first = log.begin_run(run_info)
    second = log.begin_run(replace(run_info, batch=None, level="games"))
    log.end_run(second)
    one, two = questions.runs(log)
    assert (one.id, one.info, one.ended) == (first, run_info, None)
    assert (two.id, two.info) == (second, replace(run_info, batch=None, level="games"))
    assert before <= one.started <= two.started
    assert two.ended is not None
    assert two.started <= two.ended <= before + timedelta(minutes=10)


def test_the_newest_run_with_a_fingerprint_is_found(log: Log, run_info: RunInfo) -> None:
    first, ended = log.find_or_begin_run(run_info)
    assert not ended
    assert log.find_or_begin_run(run_info) == (first, False)
    log.end_run(first)
    log.begin_run(replace(run_info, fingerprint="other"))
    assert log.find_or_begin_run(run_info) == (first, True)
    second = log.begin_run(run_info)
    assert log.find_or_begin_run(run_info) == (second, False)
    assert [run.id for run in questions.runs(log)] == [1, 2, 3]


def test_matches_come_back(log: Log, run_info: RunInfo, match_info: MatchInfo) -> None:
    run = log.begin_run(run_info)
    bare = replace(match_info, number=1, fingerprint="bare", attacker_title="", defender_title="")
    second = log.begin_match(run, bare)
    first = log.begin_match(run, match_info)
    shown = replace(bare, attacker_title="square", defender_title="aaa-sine")
    assert [(m.id, m.run_id, m.info) for m in questions.matches(log, run)] == [
        (first, run, match_info),
        (second, run, shown),
    ]
    assert questions.match(log, first).info == match_info
    assert questions.sql(log, "SELECT knowledge FROM matches WHERE number = 0").rows == [("detector",)]
    assert questions.match(log, second).info == shown
    with pytest.raises(LogError, match="has no match 77"):
        questions.match(log, 77)


def test_a_match_is_found_again_and_another_is_refused(
    log: Log, run_info: RunInfo, match_info: MatchInfo
) -> None:
    run = log.begin_run(run_info)
    match = log.begin_match(run, match_info)
    assert log.begin_match(run, match_info) == match
    other = replace(match_info, fingerprint="other", attacker="eot")
    with pytest.raises(LogError, match=r"another match under number 0: square against aaa-sine.*found eot"):
        log.begin_match(run, other)
    assert log.begin_match(log.begin_run(run_info), other) != match
    assert len(questions.matches(log, run)) == 1


def test_facts_may_hold_what_json_lacks(log: Log, run_info: RunInfo, match_info: MatchInfo) -> None:
    facts = {
        "threshold": np.float32(0.5),
        "bound": float("inf"),
        "none": float("nan"),
        "levels": np.arange(3),
        "center": torch.tensor([1.0, 2.0]),
        7: (1, None, True, "π"),
    }
    match = log.begin_match(log.begin_run(run_info), replace(match_info, facts=facts))
    assert questions.match(log, match).info.facts == {
        "threshold": 0.5,
        "bound": "inf",
        "none": "nan",
        "levels": [0, 1, 2],
        "center": [1.0, 2.0],
        "7": [1, None, True, "π"],
    }


def test_closing_waits_for_what_is_being_written(where: str, run_info: RunInfo) -> None:
    log = open_log(where)
    asked = log.submit(lambda connection: connection.exec_driver_sql("SELECT 1").scalar())
    run = log.begin_run(run_info)
    log.close()
    assert asked.result(0) == 1
    with pytest.raises(RuntimeError, match="shutdown"):
        log.end_run(run)
    with open_log(where, create=False) as again:
        assert [found.id for found in questions.runs(again)] == [run]
