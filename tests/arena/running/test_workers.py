"""Worker processes: the same log, whatever their number and whoever dies."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from arena.log import open_log, questions
from arena.messages import UserError
from arena.progress import hearing
from arena.running import workers
from arena.running.runner import Run
from arena.running.workers import WorkerError, WorkerPool, devices_of, parse_workers
from arena.scenario.errors import ScenarioError
from arena.scenario.files import parse_scenario
from bench.logs import Book

AGENTS = '''
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import torch
from agents.attackers.score.random_search import RandomSearch
from arena.classifiers import FromNumpy
from arena.players import Defender

HERE = Path(__file__).parent


def once(name):
    """Whether nobody asked before."""
    try:
        (HERE / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@dataclass(frozen=True)
class DiesOnce(RandomSearch):
    """Random search whose process is killed in the middle, the first time that it plays."""

    def play(self, games):
        yield from games.ask(games.x0, purpose="first")
        if once("died"):
            os.kill(os.getpid(), signal.SIGKILL)
        yield from super().play(games)


@dataclass(frozen=True)
class DiesOfThree(RandomSearch):
    """Random search that ends its process where it has three games."""

    def play(self, games):
        if len(games.x0) == 3:
            os._exit(0)
        yield from super().play(games)


@dataclass(frozen=True)
class Prints(RandomSearch):
    def play(self, games):
        print("to standard output")
        os.system("echo from a child")
        yield from super().play(games)


@dataclass(frozen=True)
class Fits(Defender):
    """Shifts the scores by their means on clean images, which it finds once."""

    means: tuple = ()

    def fit(self, classifier, splits):
        with (HERE / "fits").open("a") as file:
            file.write("x")
        return Fits(tuple(classifier(splits.calibration.images).mean(0).tolist()))

    def state(self):
        return {"means": list(self.means)}

    def restore(self, state, classifier):
        return Fits(tuple(state["means"]))

    def rewrite(self, scores, rows):
        return scores - 0.1 * scores.new_tensor(self.means)


@FromNumpy
def ask(x):
    """A function as a service would be asked."""
    return x.reshape(len(x), -1)[:, 20:30]


class Fails(torch.nn.Module):
    """Answers with a few pixels, until it is told to fail."""

    def forward(self, x):
        if (HERE / "fail").exists():
            raise RuntimeError("out of order")
        return x.flatten(1)[:, 20:30]
'''
TABLE = {
    "games": 8,
    "shard": 4,
    "repeats": 2,
    "utility": 30,
    "at": [5],
    "attackers": ["random-search"],
    "defenders": ["none", {"name": "snd", "sigma": 0.05}, "worker_agents:Fits"],
    "threat": {"epsilon": 0.1, "budget": 20},
}


class Watcher:
    def __init__(self) -> None:
        self.queries = self.games = 0
        self.begun: list[int] = []
        self.said: set[str] = set()
        self.remarks: list[str] = []

    def match(self, match: Any, games: int) -> None:
        self.begun.append(match.number)

    def played(self, queries: int) -> None:
        self.queries += queries

    def failed(self, match: Any, games: int, said: str) -> None:
        self.said.add(said)

    def ended(self, games: int, skipped: bool) -> None:
        self.games += games

    def working(self, work: object) -> None:
        pass

    def remark(self, sentence: str) -> None:
        self.remarks.append(sentence)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the agents lie, and from where they are imported."""
    folder = tmp_path_factory.mktemp("workers")
    (folder / "worker_agents.py").write_text(AGENTS)
    sys.path.append(str(folder))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("worker_agents", None)


def run(folder: Path, **changes: Any) -> Run:
    scenario = parse_scenario({**TABLE, **changes}, "workers", folder, "workers")
    return Run(scenario, device="cpu", prepared=folder / "prepared")


@pytest.fixture(scope="module")
def pool(folder: Path) -> Iterator[WorkerPool]:
    """Two workers, for all tests: they cost a second or two each."""
    with WorkerPool(run(folder).supplies(), 2) as pool:
        yield pool


def played(
    folder: Path, log: Path, pool: WorkerPool | None, **changes: Any
) -> tuple[dict[str, str], Watcher]:
    """What the log then holds, and what was heard of it."""
    watcher = Watcher()
    with open_log(log) as book, hearing(watcher):
        opened = None if pool is None else (lambda supplies: nullcontext(pool))
        assert run(folder, **changes).play(book, watcher, pool=opened)[1]
    return Book(str(log)).contents(), watcher


def test_workers_leave_the_same_log_and_say_the_same(folder: Path, tmp_path: Path, pool: WorkerPool) -> None:
    alone, heard = played(folder, tmp_path / "alone.db", None, margin_base=True)
    several, heard_too = played(folder, tmp_path / "several.db", pool, margin_base=True)
    assert several == alone
    assert (heard_too.queries, heard_too.games) == (heard.queries, heard.games)
    assert sorted(heard_too.begun) == heard.begun == [0, 1, 2]
    assert (folder / "fits").read_text() == "x", "prepared once, and read back by all"
    with open_log(tmp_path / "several.db", create=False) as log:
        assert questions.sql(log, "SELECT count(*) FROM queries WHERE margin_base IS NULL").rows == [(0,)]
        costs = questions.sql(log, "SELECT cost_1, seconds_1, peak_bytes FROM utilities").rows
    assert all(seconds > 0 and peak > 0 for _, seconds, peak in costs)
    assert sum(cost is not None and cost > 0 for cost, _, _ in costs) == 2, "none has no cost to compare"


def test_a_worker_that_is_killed_costs_its_shard_which_is_played_again(
    folder: Path, tmp_path: Path, pool: WorkerPool
) -> None:
    changes = {"attackers": ["worker_agents:DiesOnce"], "defenders": ["none"], "utility": 0}
    several, heard = played(folder, tmp_path / "killed.db", pool, **changes)
    assert (folder / "died").exists()
    (said,) = heard.remarks
    assert said.startswith("a worker died amid shard ") and said.endswith("again: SIGKILL ended it")
    assert several == played(folder, tmp_path / "whole.db", None, **changes)[0]


def test_a_shard_that_ends_its_workers_ends_in_error_and_the_others_are_played(
    folder: Path, tmp_path: Path, pool: WorkerPool
) -> None:
    one = {"attackers": ["worker_agents:DiesOfThree"], "defenders": ["none"], "utility": 0, "repeats": 1}
    drawn = len(run(folder, **one).worlds[0])
    _, heard = played(folder, tmp_path / "x.db", pool, **one, shard=drawn - 3)
    why = "the worker died each of the 3 times that this was played; the last time it ended with status 0"
    assert heard.said == {why}
    with open_log(tmp_path / "x.db", create=False) as log:
        reasons = dict(
            questions.sql(log, "SELECT shard, min(reason) FROM finished_games GROUP BY shard").rows
        )
        notes = questions.sql(log, "SELECT DISTINCT key, value FROM finished_notes").rows
    assert reasons[1] == "error" and reasons[0] != "error"
    assert notes == [("error", why)]


def test_what_agents_print_is_shown_and_disturbs_nothing(
    folder: Path, tmp_path: Path, pool: WorkerPool, capfd: pytest.CaptureFixture[str]
) -> None:
    one = {"attackers": ["worker_agents:Prints"], "defenders": ["none"], "utility": 0, "repeats": 1}
    several, _ = played(folder, tmp_path / "x.db", pool, **one)
    assert several == played(folder, tmp_path / "y.db", None, **one)[0]
    assert "from a child" in capfd.readouterr().err


def test_an_error_of_the_classifier_ends_the_run_with_its_sentence(
    folder: Path, tmp_path: Path, pool: WorkerPool
) -> None:
    own = {"classifier": {"network": "worker_agents:Fails"}, "defenders": ["none"], "utility": 0, "games": 2}
    prepared = run(folder, **own)
    (folder / "fail").touch()
    with open_log(tmp_path / "x.db") as log, pytest.raises(UserError, match="out of order"):
        prepared.play(log, Watcher(), pool=lambda supplies: nullcontext(pool))
    (folder / "fail").unlink()
    several, _ = played(folder, tmp_path / "x.db", pool, **own)
    assert several == played(folder, tmp_path / "y.db", None, **own)[0], "the same command goes on"


def test_workers_play_nothing_that_became_another_match(
    folder: Path, tmp_path: Path, pool: WorkerPool
) -> None:
    changes = {"attackers": ["worker_agents:Prints"], "defenders": ["none"], "utility": 0, "seed": 3}
    prepared = run(folder, **changes)
    prepared.info()
    (folder / "worker_agents.py").write_text(AGENTS + "\n# edited while the run goes on\n")
    try:
        with open_log(tmp_path / "x.db") as log, pytest.raises(ScenarioError) as caught:
            prepared.play(log, Watcher(), pool=lambda supplies: nullcontext(pool))
    finally:
        (folder / "worker_agents.py").write_text(AGENTS)
    assert "would be another match on" in str(caught.value) and "code is " in str(caught.value)


def test_calls_of_a_function_of_the_user_s_are_announced_and_counted_in_all_workers(
    folder: Path, tmp_path: Path, pool: WorkerPool
) -> None:
    own = {"classifier": {"network": "worker_agents:ask"}, "games": 4, "shard": 2, "repeats": 1}
    scenario = parse_scenario({**TABLE, **own, "defenders": ["none"]}, "workers", folder, "workers")
    prepared = Run(scenario, device="cpu", prepared=folder / "prepared", workers=2)
    (plan,) = prepared.plans
    with open_log(tmp_path / "x.db") as log:
        prepared.play(log, Watcher(), pool=lambda supplies: nullcontext(pool))
        (queries,) = questions.sql(log, "SELECT sum(queries) FROM games").rows[0]
    made = prepared.calls.of(plan.name)
    assert made["queries"][1] == queries > 0
    for cause, (calls, images) in made.items():
        planned = plan.planned[cause]
        assert calls <= planned.calls and images <= planned.images, cause


def test_what_cannot_be_sent_is_said_before_the_run(folder: Path) -> None:
    from agents.attackers.score.random_search import RandomSearch

    class Local(RandomSearch):
        """Cannot be found by another process."""

    prepared = run(folder)
    object.__setattr__(prepared.scenario.matches[1], "attacker", Local())
    with pytest.raises(ScenarioError, match="cannot be played in another process"):
        prepared.check_sendable()


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "", "1025", "٣", "9" * 5000])
def test_the_number_of_workers_is_checked(text: str) -> None:
    with pytest.raises(WorkerError, match="it must be a number from 1 to 1024, or auto"):
        parse_workers(text)


def test_auto_is_a_worker_for_each_core() -> None:
    assert parse_workers("7") == 7
    assert parse_workers("auto") == len(os.sched_getaffinity(0))


def test_workers_share_the_gpus_of_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["H200", "T4", "H200"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: names[i])
    assert devices_of("cuda", 5) == ["cuda:0", "cuda:2", "cuda:0", "cuda:2", "cuda:0"]
    assert devices_of("cuda:1", 2) == ["cuda:1"] * 2
    assert devices_of("cpu", 2) == ["cpu"] * 2


def test_no_worker_outlives_its_pool(folder: Path) -> None:
    with WorkerPool(run(folder).supplies(), 1) as pool:
        pool.give(0, b"anything")
        (worker,) = pool._workers
        assert worker is not None
        pid = worker._process.pid
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert workers.MOST == 1024
