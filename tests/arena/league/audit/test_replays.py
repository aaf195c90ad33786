"""The indicators that need play, on small plays with planted failures and sound controls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.defenders.snd import SND
from arena.game.shard import Job
from arena.game.stack import Stack
from arena.game.stack_oracle import StackOracle
from arena.league.audit.frozen import freeze
from arena.league.audit.replays import WHOLE, Replays
from arena.league.audit.sampling import sample
from arena.league.board import Finding
from arena.league.cells import Source
from arena.league.matrices import Matrix, matrices, read_sources
from arena.log import Log, open_log
from arena.log.shard_rows import LoggedShard
from arena.players import Rows
from arena.running.rebuilding import ReplayError
from arena.running.replaying import Replayer
from tests.arena.league.made import match

GAMES = 16
PLANTED = "tests.arena.league.audit.planted"
FLAT, STUCK, WEAK = f"{PLANTED}:Flat", f"{PLANTED}:Stuck", "agents.defenders.weak:Weak"
THREAT = {"epsilon": 0.25, "budget": 40, "objective": "submit"}
SCENARIO: dict[str, Any] = {
    "games": GAMES,
    "shard": 10,
    "at": [],
    "attackers": [{"name": "square", "p": 0.3}, STUCK],
    "defenders": ["none", FLAT, {"name": "snd", "sigma": 0.3}, WEAK],
    "threat": THREAT,
}


@pytest.fixture(scope="module")
def book(replays, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    path = replays.play(tmp_path_factory.mktemp("audit") / "planted.db", **SCENARIO)
    with open_log(path, create=False) as log:
        yield log


@pytest.fixture(scope="module")
def matrix(book: Log) -> Matrix:
    (found,) = matrices(read_sources(book))
    return found


@pytest.fixture(scope="module")
def findings(book: Log, matrix: Matrix) -> list[Finding]:
    with Replayer(book) as replayer:
        return Replays(replayer, GAMES).findings(matrix)


def of(findings: list[Finding], indicator: str, attacker: str, defender: str) -> list[str]:
    """What is said of a cell alone; what is clear is said of cells together."""
    cell = (indicator, attacker, defender)
    return [f.status for f in findings if (f.indicator, f.attacker, f.defender) == cell]


def source(matrix: Matrix, attacker: str, defender: str) -> Source:
    return matrix.cells[attacker, defender].sources[0]


def test_games_that_go_on_beyond_a_count_say_nothing_of_it(book: Log) -> None:
    early = next(m for m in matrices([match(won=[1, 0], marks={50: [0, 0]})]) if m.at == 50)
    with Replayer(book) as replayer:
        found = Replays(replayer).findings(early)
    assert {one.status for one in found} == {"unchecked"}
    assert all(WHOLE in one.evidence for one in found)


def test_the_sample_is_played_as_the_log_has_it(book: Log, matrix: Matrix) -> None:
    with Replayer(book) as replayer:
        for defender in ("none", "snd", FLAT):
            own = sample(replayer, source(matrix, "square", defender), 12)
            assert len(own) == 12
            assert len(own.jobs) == 2  # of two shards
            assert own.play(lambda job: job).tolist() == own.logged.tolist()


def test_noise_that_only_draws_is_found_by_freezing_it(findings: list[Finding]) -> None:
    assert of(findings, "frozen-draws", "square", "snd") == ["found"]
    assert "found" not in of(findings, "frozen-draws", "square", WEAK)
    assert of(findings, "frozen-draws", "square", "none") == []  # it does not draw


def test_frozen_draws_are_those_of_the_first_turn_for_every_answer(book: Log, matrix: Matrix) -> None:
    with Replayer(book) as replayer:
        job = sample(replayer, source(matrix, "square", "snd"), 4).jobs[0][0]
    stack = freeze(job.stack, 3)
    assert not stack.random
    assert stack.answers_are_facts
    oracle = StackOracle(stack, seed=5, games=4)
    x = job.openings.x0
    one, other = (oracle.respond(x, rows(turn)).scores for turn in (1, 7))
    assert torch.equal(one, other)
    assert torch.equal(one, oracle.fresh(x, rows(9)).scores)
    assert not torch.equal(one, StackOracle(freeze(job.stack, 4), seed=5, games=4).respond(x, rows(1)).scores)
    apart = StackOracle(Stack(job.stack.base, (SND(sigma=0.3),)), seed=5, games=4)
    assert not torch.equal(*(apart.respond(x, rows(turn)).scores for turn in (1, 7)))


def rows(turn: int) -> Rows:
    index = torch.arange(4)
    return Rows(index, index, torch.full((4,), turn), torch.zeros_like(index), index)


def test_an_attack_that_is_not_converged(replays, findings: list[Finding], tmp_path: Path) -> None:
    short = {"attackers": SCENARIO["attackers"][:1], "defenders": ["none"], "threat": THREAT | {"budget": 4}}
    path = replays.play(tmp_path / "short.db", **SCENARIO | short)
    with open_log(path, create=False) as book, Replayer(book) as replayer:
        (own,) = matrices(read_sources(book))
        (found,) = [f for f in Replays(replayer, GAMES).findings(own) if f.indicator == "doubled-budget"]
    assert found.status == "found"
    assert "at 8 queries beside 4" in found.evidence
    assert of(findings, "doubled-budget", "square", "none") == []  # with 40 it is, like others


def test_a_ball_that_holds_every_image(findings: list[Finding]) -> None:
    assert of(findings, "large-epsilon", STUCK, "none") == ["found"]
    (stuck,) = [
        f for f in findings if f.indicator == "large-epsilon" and (f.attacker, f.defender) == (STUCK, "none")
    ]
    assert stuck.grave
    assert "0 of 16 games" in stuck.evidence
    assert "found" not in of(findings, "large-epsilon", "square", "none")


def test_images_found_elsewhere_beat_the_direct_attack(findings: list[Finding]) -> None:
    assert of(findings, "transfer", "square", FLAT) == ["found"]
    assert "found" not in of(findings, "transfer", STUCK, "none")


def test_what_cannot_be_played_again_is_unchecked(book: Log, matrix: Matrix) -> None:
    class Refusing(Replayer):
        def job(self, shard: LoggedShard) -> Job:
            raise ReplayError("no such agent")

    with Refusing(book) as replayer:
        found = Replays(replayer).findings(matrix)
    assert {f.status for f in found} == {"unchecked"}
    assert all("no such agent" in f.evidence for f in found)


def test_the_numbers_of_the_sample(book: Log, matrix: Matrix) -> None:
    with Replayer(book) as replayer:
        own = sample(replayer, source(matrix, "square", "none"), 5)
    kept = np.flatnonzero(np.array(own.source.games.reason) != "clean")[:5]
    assert own.rows.tolist() == kept.tolist()
