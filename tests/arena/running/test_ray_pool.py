"""A Ray cluster of two seats on this machine: the same log, and nobody's death ends the run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from arena.log import open_log
from arena.progress import hearing
from arena.running.ray_pool import RayPool
from arena.running.runner import OpenPool, Run
from arena.running.workers import WorkerError
from arena.scenario.files import parse_scenario
from bench.logs import Book

if importlib.util.find_spec("ray") is None:
    pytest.skip("Ray is not installed: pip install ray", allow_module_level=True)

AGENTS = '''
import os
from dataclasses import dataclass
from pathlib import Path

from agents.attackers.score.random_search import RandomSearch
from arena.players import Defender


@dataclass(frozen=True)
class DiesOnce(RandomSearch):
    """Random search that ends its process in the middle, the first time that it plays."""

    def play(self, games):
        yield from games.ask(games.x0, purpose="first")
        mark = Path(__file__).parent / "died"
        if not mark.exists():
            mark.touch()
            os._exit(1)
        yield from super().play(games)


@dataclass(frozen=True)
class Fits(Defender):
    """Shifts the scores by their means on clean images, which it finds once."""

    means: tuple = ()

    def fit(self, classifier, splits):
        with (Path(__file__).parent / "fits").open("a") as file:
            file.write("x")
        return Fits(tuple(classifier(splits.calibration.images).mean(0).tolist()))

    def state(self):
        return {"means": list(self.means)}

    def restore(self, state, classifier):
        return Fits(tuple(state["means"]))

    def rewrite(self, scores, rows):
        return scores - 0.1 * scores.new_tensor(self.means)
'''
TABLE = {
    "games": 6,
    "shard": 3,
    "utility": 20,
    "attackers": ["random-search", "ray_agents:DiesOnce"],
    "defenders": ["ray_agents:Fits"],
    "threat": {"epsilon": 0.1, "budget": 20},
}


class Watcher:
    def __init__(self) -> None:
        self.queries = 0
        self.remarks: list[str] = []

    def match(self, match: Any, games: int) -> None:
        pass

    def played(self, queries: int) -> None:
        self.queries += queries

    def failed(self, match: Any, games: int, said: str) -> None:
        raise AssertionError(said)

    def ended(self, games: int, skipped: bool) -> None:
        pass

    def working(self, work: object) -> None:
        pass

    def remark(self, sentence: str) -> None:
        self.remarks.append(sentence)


def played(folder: Path, name: str, pool: OpenPool | None) -> tuple[dict[str, str], Watcher]:
    """What the log then holds, and what was heard of it."""
    scenario = parse_scenario(TABLE, "ray", folder, "ray")
    run = Run(scenario, device="cpu", prepared=folder / "prepared")
    with open_log(folder / name) as log, hearing(watcher := Watcher()):
        assert run.play(log, watcher, pool=pool)[1]
    return Book(str(folder / name)).contents(), watcher


def test_ray_leaves_the_same_log_though_a_worker_dies_and_prepared_defenders_are_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ray_agents.py").write_text(AGENTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # of the workers, who get them from here
    on_ray, heard = played(tmp_path, "ray.db", lambda supplies: RayPool(supplies, "local", 2))
    alone, _ = played(tmp_path, "alone.db", None)
    sys.modules.pop("ray_agents", None)
    assert on_ray == alone
    (said,) = heard.remarks
    assert said.startswith("a worker died amid shard ") and "is played again: WorkerCrashedError" in said
    assert heard.queries >= 2 * 6 * 20 / 2
    assert (tmp_path / "fits").read_text() == "x"
    assert len(list((tmp_path / "cache" / "arena" / "prepared").glob("*.safetensors"))) == 1


def test_an_address_without_a_cluster_is_told(tmp_path: Path) -> None:
    scenario = parse_scenario(
        {**TABLE, "attackers": ["random-search"], "defenders": ["none"]}, "x", tmp_path, "x"
    )
    supplies = Run(scenario, device="cpu", prepared=tmp_path).supplies()
    with (
        pytest.raises(WorkerError, match="there is no cluster at 'nowhere'"),
        RayPool(supplies, "nowhere", 2),
    ):
        pass
