"""What a user's function is asked in a run: announced, and counted, by cause."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from arena.classifiers import FromNumpy, load_classifier, served
from arena.classifiers.errors import ServiceError
from arena.classifiers.served import CAUSES
from arena.classifiers.spec import ClassifierSpec
from arena.datasets import load_dataset
from arena.log import open_log, questions
from arena.players.registry import build_defender, missing_parameter, names
from arena.progress import Work, hearing
from arena.running.runner import Run
from arena.scenario.files import parse_scenario

TABLE: dict[str, Any] = {
    "games": 8,
    "shard": 5,
    "at": [5],
    "votes": 3,
    "attackers": ["square"],
    "defenders": ["none"],
    "threat": {"epsilon": 0.2, "budget": 12},
    "classifier": "counted_service:ask",
}


class Watcher:
    def __init__(self) -> None:
        self.works: list[str] = []
        self.remarks: list[str] = []

    def match(self, match: Any, games: int) -> None: ...

    def played(self, queries: int) -> None: ...

    def ended(self, games: int, skipped: bool) -> None: ...

    def working(self, work: Work | None) -> None:
        self.works.append("" if work is None else str(work))

    def remark(self, sentence: str) -> None:
        self.remarks.append(sentence)


class Counted:
    """The digits' network as a service that counts what it is asked."""

    def __init__(self) -> None:
        network = load_classifier(ClassifierSpec(network="digits-cnn"), load_dataset("digits"))
        self.network, self.calls, self.images = network, 0, 0
        self.fails_after: int | None = None

    def __call__(self, x: np.ndarray[Any, Any]) -> Any:
        import torch

        if self.fails_after is not None and self.calls >= self.fails_after:
            raise ConnectionResetError("reset by peer")
        self.calls, self.images = self.calls + 1, self.images + len(x)
        return self.network(torch.from_numpy(x)).numpy()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted, module = Counted(), ModuleType("counted_service")
    module.ask = FromNumpy(counted)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "counted_service", module)
    return counted


@pytest.fixture
def ready(tmp_path: Path) -> Callable[..., Run]:
    def ready(**changes: Any) -> Run:
        scenario = parse_scenario({**TABLE, **changes}, "served", tmp_path, "served")
        return Run(scenario, device="cpu", prepared=tmp_path / "prepared")

    return ready


def play(run: Run, folder: Path, watcher: Watcher | None = None) -> None:
    with open_log(str(folder / "served.db")) as log:
        watcher = watcher or Watcher()
        with hearing(watcher):
            run.play(log, watcher)


def test_an_undefended_service_is_asked_what_was_announced(
    service: Counted, ready: Callable[..., Run], tmp_path: Path
) -> None:
    run = ready()
    (plan,) = run.plans
    before = service.images
    assert plan.planned["checks"].images == before - len(run.worlds[0])
    play(run, tmp_path)
    made = run.calls.of(plan.name)
    assert sum(images for _, images in made.values()) == service.images
    assert sum(calls for calls, _ in made.values()) == service.calls
    for cause in CAUSES:
        planned, (calls, images) = plan.planned[cause], made[cause]
        assert planned.images is not None and planned.calls is not None
        assert calls <= planned.calls, cause
        if planned.kind == "exact":
            assert images == planned.images, cause
        else:
            assert planned.kind == "at most" and 0 < images <= planned.images, cause
    exact = {cause: p.images for cause, p in plan.planned.items() if p.kind == "exact"}
    drawn = len(run.worlds[0])
    assert exact == {
        "checks": 1 + 2 * 3 + 1 + 4 + 8,  # its classes, whether it is a function, its work, its largest batch
        "preparing": 0,
        "openings": drawn,  # once for all: not again for the mark at 0, nor for each shard
        "resources": 0,
        "utility": 100 - drawn,  # the first of them are those drawn
        "cost": 0,
        "monitor": 0,
        "insider": 0,
    }
    assert plan.planned["queries"].images == 8 * 12
    assert plan.planned["verdicts"].images == 8 * 3, "5, 12 and the end; one answer for base and vote"


def test_a_defended_one_is_asked_no_more_than_was_announced(
    service: Counted, ready: Callable[..., Run], tmp_path: Path
) -> None:
    stack = {"stack": ["disagreement", {"name": "snd", "sigma": 0.05}]}
    run = ready(defenders=["none", {"name": "aaa-linear", "kappa": 2}, stack], utility=20, games=6)
    (plan,) = run.plans
    play(run, tmp_path)
    for cause, (calls, images) in run.calls.of(plan.name).items():
        planned = plan.planned[cause]
        assert planned.images is not None and images <= planned.images, cause
        assert planned.calls is not None and calls <= planned.calls, cause
    data = run.worlds[0].dataset
    assert plan.planned["preparing"].images == len(data.calibration), "AAA's temperature; about"
    assert run.calls.of(plan.name)["preparing"][1] == len(data.calibration)
    assert plan.planned["queries"].images == (1 + 1 + 2) * 6 * 12


def test_rows_that_cannot_be_charged_are_not_asked(
    service: Counted, ready: Callable[..., Run], tmp_path: Path
) -> None:
    """Of a volley beyond the budget only what is left is asked."""
    run = ready(attackers=["hop-skip-jump"], threat={"epsilon": 0.2, "budget": 30, "feedback": "label"})
    (plan,) = run.plans
    play(run, tmp_path)
    planned, (_, images) = plan.planned["queries"].images, run.calls.of(plan.name)["queries"]
    assert planned is not None and images <= planned == 8 * 30


def test_a_monitor_is_announced_and_asked_beside_the_charged_queries_alone(
    service: Counted, ready: Callable[..., Run], tmp_path: Path
) -> None:
    stack = {"stack": ["disagreement", {"name": "snd", "sigma": 0.05}]}
    changes = {"attackers": ["hop-skip-jump"], "threat": {"epsilon": 0.2, "budget": 30, "feedback": "label"}}
    run = ready(defenders=["none", stack], margin_base=True, utility=0, games=6, **changes)
    (plan,) = run.plans
    play(run, tmp_path)
    made = run.calls.of(plan.name)
    assert plan.planned["monitor"].images == 6 * 30, "where nothing defends, the answer is known"
    assert plan.planned["monitor"].kind == "at most"
    with open_log(str(tmp_path / "served.db"), create=False) as log:
        wanted = "SELECT count(*), count(margin_base), sum(margin_base <> margin) FROM finished_queries q"
        of_match = " JOIN finished_games g ON g.id = q.game_id WHERE g.match_id = "
        (bare,), (defended,) = (questions.sql(log, f"{wanted}{of_match}{match}").rows for match in (1, 2))
    assert bare[0] == bare[1] > 0 == bare[2]
    assert defended[0] == defended[1] <= made["monitor"][1] <= 6 * 30
    assert defended[2] > 0
    assert sum(images for _, images in made.values()) == service.images


LOOKS = {"resize-pad": 1}
"""Those that ask about a single image, to see what the network takes."""


@pytest.mark.parametrize("name", names("defender"))
def test_packaged_defenders_say_what_preparing_them_asks(name: str) -> None:
    data = load_dataset("digits")
    inside = {"of": "rnd"} if missing_parameter("defender", name) else {}
    images = build_defender({"name": name, **inside}).preparing(data)  # type: ignore[arg-type]
    assert images is not None
    assert images in (0, LOOKS.get(name)) or images >= len(data.calibration)


def test_a_network_is_nobodys_bill(ready: Callable[..., Run]) -> None:
    assert ready(classifier="digits-cnn", utility=0).plans == []


def test_a_service_that_fails_stops_the_run_which_goes_on_later(
    service: Counted, ready: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.time, "sleep", lambda seconds: None)
    run, watcher = ready(utility=0), Watcher()
    service.fails_after = service.calls + 15  # in the second shard
    with pytest.raises(ServiceError, match=r"Counted did not answer \d+ images in 7 tries"):
        play(run, tmp_path, watcher)
    assert len(watcher.remarks) == 1
    service.fails_after = None
    again = ready(utility=0)
    play(again, tmp_path)
    name = run.plans[0].name
    whole = ready(utility=0)
    (tmp_path / "whole").mkdir()
    play(whole, tmp_path / "whole")
    first, second, all_of_it = (r.calls.of(name)["queries"][1] for r in (run, again, whole))
    assert 0 < second < all_of_it < first + second + 1, "the first shard is not played again"


def test_what_is_prepared_and_measured_is_told(ready: Callable[..., Run], tmp_path: Path) -> None:
    aaa = {"name": "aaa-linear", "kappa": 2}
    run, watcher = ready(classifier="digits-cnn", defenders=[aaa], games=2, utility=100), Watcher()
    assert not run.stacks.is_prepared(run.scenario.matches[0], run.worlds[0])
    play(run, tmp_path, watcher)
    told = watcher.works
    begun = told.index("preparing aaa-linear: fitting aaa-linear")
    assert told[begun + 1] == "preparing aaa-linear: fitting aaa-linear: temperatures tried, 0 of 87"
    assert told.index("", begun) < told.index("measuring aaa-linear")
    assert "measuring aaa-linear: clean images answered, 64 of 100" in told
    assert told[-1] == ""
    assert run.stacks.is_prepared(run.scenario.matches[0], run.worlds[0])
