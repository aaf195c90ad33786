"""Benign traffic of a run: recorded once for each stack, found again, resumed, and the same by workers."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from arena.log import open_log, questions
from arena.report.summary import read_rows
from arena.running.benign_work import BenignWork
from arena.running.runner import Run
from arena.running.workers import WorkerPool
from arena.scenario.errors import ScenarioError
from arena.scenario.files import parse_scenario

DEFENDERS = """
from dataclasses import dataclass, replace
from typing import ClassVar
import torch
from arena.players import Defender

@dataclass(frozen=True)
class RefusesRepeats(Defender):
    memory: ClassVar[str] = "service"

    def start(self, shape, accounts, device):
        return set()

    def watch(self, x, rows, response):
        known = [row.numpy().tobytes() in rows.memory for row in x.cpu()]
        return replace(response, refused=torch.tensor(known, device=x.device))

    def remember(self, x, rows, response):
        rows.memory.update(row.numpy().tobytes() for row in x.cpu())
"""
BENIGN = {
    "sessions": 4,
    "clients": ["single", "repeats", "video"],
    "histories": ["empty", "benign-30", "poison-8"],
    "draws": 2,
}
TABLE: dict[str, Any] = {
    "games": 2,
    "shard": 2,
    "utility": 0,
    "attackers": ["random-search", "square"],
    "defenders": ["none", {"name": "snd", "sigma": 0.05}, "benign_defenders:RefusesRepeats"],
    "threat": {"epsilon": 0.1, "budget": 3},
}
COLUMNS = (
    "client, history, sessions, draws, queries, refused, flagged, banned, declined, altered,"
    " sessions_refused, sessions_flagged, sessions_banned, sessions_altered, sessions_lost"
)


class Watcher:
    def match(self, match: Any, games: int) -> None: ...
    def played(self, queries: int) -> None: ...
    def failed(self, match: Any, games: int, said: str) -> None: ...
    def ended(self, games: int, skipped: bool) -> None: ...


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("benign")
    (folder / "benign_defenders.py").write_text(DEFENDERS)
    sys.path.append(str(folder))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("benign_defenders", None)


def run(folder: Path, **changes: Any) -> Run:
    scenario = parse_scenario({**TABLE, "benign": BENIGN, **changes}, "benign", folder, "benign")
    return Run(scenario, device="cpu", prepared=folder / "prepared")


def rows_of(log: Any) -> list[Any]:
    wanted = f"SELECT m.defender, m.attacker, {COLUMNS} FROM benign b JOIN matches m ON m.id = b.match_id"
    return sorted(map(tuple, questions.sql(log, wanted).rows))


@pytest.fixture(scope="module")
def whole(folder: Path) -> list[Any]:
    with open_log(folder / "whole.db") as log:
        run(folder).play(log, Watcher())
        return rows_of(log)


def test_each_match_holds_what_clients_lose_to_its_stack(whole: list[Any]) -> None:
    by = {row[:4]: row[4:] for row in whole}
    assert len(by) == len(whole) == 2 * (3 + 3 + 9)
    for attacker in ("random-search", "square"):
        name = "benign_defenders:RefusesRepeats"
        for history, refused in (("empty", 36), ("benign-30", 36), ("poison-8", 40)):
            assert by[name, attacker, "repeats", history][:4] == (4, 1, 40, refused)
        assert by["snd", attacker, "video", "empty"][:4] == (4, 2, 120, 0)
        assert by["none", attacker, "video", "empty"][3:8] == (0, 0, 0, 0, 0.0)


def test_workers_record_the_same(folder: Path, whole: list[Any], tmp_path: Path) -> None:
    with WorkerPool(run(folder).supplies(), 2) as pool, open_log(tmp_path / "log.db") as log:
        run(folder).play(log, Watcher(), pool=lambda supplies: nullcontext(pool))
        assert rows_of(log) == whole


def test_an_interrupted_run_plays_what_is_missing(
    folder: Path, whole: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[Any] = []
    keep = BenignWork.keep

    def counted(work: BenignWork, loss: Any) -> None:
        played.append(loss)
        keep(work, loss)
        if len(played) == 8:
            raise KeyboardInterrupt

    with open_log(tmp_path / "log.db") as log:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(BenignWork, "keep", counted)
            run(folder).play(log, Watcher())
        assert len(rows_of(log)) == 16
        again: list[Any] = []
        monkeypatch.setattr(BenignWork, "keep", lambda work, loss: (again.append(loss), keep(work, loss)))
        run(folder).play(log, Watcher())
        assert rows_of(log) == whole
        known = {(loss.client, loss.history) for loss in again}
        assert len(known) > 5


def test_what_another_run_knows_is_not_played_again(
    folder: Path, whole: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_log(tmp_path / "log.db") as log:
        run(folder).play(log, Watcher())
        monkeypatch.setattr(BenignWork, "do", lambda *_: pytest.fail("played again"))
        second, _ = run(folder, attackers=["random-search", "bi-square"]).play(log, Watcher())
        rows = {row.match.info.defender: row for row in read_rows(log, second)}
        assert {name: len(row.benign) for name, row in rows.items()} == {
            "none": 3,
            "snd": 3,
            "benign_defenders:RefusesRepeats": 9,
        }
        third, _ = run(folder, benign=0).play(log, Watcher())
        assert not any(row.benign for row in read_rows(log, third))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            {"sessions": 4, "clients": ["vidoe"]},
            'benign.clients: found "vidoe"; there is no such client;',
        ),
        ({"histories": ["some"]}, "benign.histories: found 'some'; a history is \"empty\", or"),
        ({"session": 3}, "benign.session: there is no such key"),
        ("many", "benign"),
        (-1, "benign.sessions: "),
        (True, "benign"),
    ],
)
def test_a_scenario_says_what_is_wrong(folder: Path, value: Any, said: str) -> None:
    with pytest.raises(ScenarioError) as error:
        parse_scenario({**TABLE, "benign": value}, "benign", folder, "benign.toml")
    print(error.value)
    assert said in str(error.value)
