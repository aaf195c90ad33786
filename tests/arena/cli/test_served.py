"""`arena play` of a user's function that asks a service: announced, counted, and told in one sentence."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from arena.classifiers import served
from arena.cli import play
from arena.cli.app import app
from arena.progress import Work

SERVICE = """
import numpy as np
from arena.classifiers import FromNumpy

calls = 0
stops_at = None

@FromNumpy
def ask(x):
    global calls
    calls += 1
    if stops_at is not None and calls >= stops_at:
        raise ConnectionRefusedError("the service is down")
    return np.stack([x.mean((1, 2, 3)), 0.3 - x.mean((1, 2, 3)), *[x[:, 0, i, 4] - 0.9 for i in range(8)]], 1)
"""
SCENARIO = """
title = "A service"
classifier = "line_service:ask"
games = 6
shard = 3
utility = 0
attackers = ["random-search"]
defenders = ["none", { name = "snd", sigma = 0.01 }, { name = "snd", sigma = 0.02 }]
threat = { epsilon = 0.1, budget = 9 }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "line_service", raising=False)
    monkeypatch.setattr(served.time, "sleep", lambda seconds: None)
    (tmp_path / "line_service.py").write_text(SERVICE)
    (tmp_path / "line.toml").write_text(SCENARIO)
    return tmp_path


def arena(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*words, "--device", "cpu"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.output


def figures(said: str, row: str) -> list[str]:
    """The last four columns of a row of the table."""
    (line,) = [line for line in said.splitlines() if line.strip().startswith(row)]
    return re.findall(r"(?:[≤≈] )?[\d,]+|unknown", line)[-4:]


def test_a_dry_run_tells_rows_apart_and_announces_all_calls(folder: Path) -> None:
    code, said = arena("play", "line.toml", "--dry-run")
    assert code == 0
    assert play.labels(play.ready("line.toml", [], "cpu", None, None)) == [
        "random-search vs none",
        "random-search vs snd (sigma=0.01)",
        "random-search vs snd (sigma=0.02)",
    ]
    assert "sigma=0.02" in said
    assert "what line_service:ask will be asked" in said
    assert figures(said, "charged queries") == ["≤ 162", "162", "0", "0"], "3 x 6 x 9"
    assert figures(said, "verdicts") == [f"≤ {12 + 2 * 12 * 26}", f"{12 + 2 * 12 * 26}", "0", "0"]
    assert not (folder / "runs").exists()


def test_a_run_ends_with_what_was_announced_and_made(folder: Path) -> None:
    code, said = arena("play", "line.toml")
    assert code == 0
    assert "what line_service:ask was asked" in said
    announced, _, made, calls = figures(said, "charged queries")
    assert announced == "≤ 162" and 0 < int(calls) <= int(made) <= 162
    checks = figures(said, "checks when it is loaded")
    assert checks[0] == checks[2] == "20"
    *_, images, calls = figures(said, "together")
    assert int(calls.replace(",", "")) == sys.modules["line_service"].calls
    assert int(images.replace(",", "")) > 162


def test_a_service_that_is_down_is_one_sentence(folder: Path) -> None:
    arena("play", "line.toml", "--dry-run")
    module: Any = sys.modules["line_service"]
    module.stops_at = 2 * module.calls + 35  # as many to load it again, then play
    code, said = arena("play", "line.toml")
    assert code == 1
    assert "Traceback" not in said
    assert said.count("trying again, up to 6 times") == 1
    assert re.search(
        r"error: classifier line_service:ask did not answer \d+ images in 7 tries over 31.5 seconds: "
        r"ConnectionRefusedError: the service is down\n",
        said,
    )
    assert "finished shards are safe in runs/line.db; the same command goes on from them" in said
    module.stops_at = None
    code, said = arena("play", "line.toml")
    assert code == 0
    assert "runs/line.db held " in said, "the first shards are not played again"
    module.stops_at = 0
    code, said = arena("play", "line.toml")
    assert code == 2 and said.count("error: ") == 1
    assert "classifier: classifier line_service:ask did not answer 1 images" in said


def test_an_address_is_told_what_to_do(folder: Path) -> None:
    (folder / "line.toml").write_text(SCENARIO.replace("line_service:ask", "http://localhost:8000/ask"))
    code, said = arena("play", "line.toml")
    assert code == 2
    assert said == (
        "error: line.toml: classifier.network: found 'http://localhost:8000/ask'; addresses are not read "
        "yet: a served model comes as a Python function of yours that asks it, such as "
        '"my_module:ask", from arrays of images to arrays of logits, marked @arena.classifiers.FromNumpy\n'
    )


def test_progress_tells_what_is_prepared_and_no_rate_before_a_query(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(force_terminal=False, width=100, file=io.StringIO())
    monkeypatch.setattr(play, "err", console)
    clock = [100.0]
    monkeypatch.setattr(play.time, "monotonic", lambda: clock[0])
    match = SimpleNamespace(number=0, settings=SimpleNamespace(repeats=1))
    monkeypatch.setattr(play, "labels", lambda run: ["square vs predcoin"])
    run: Any = SimpleNamespace(scenario=SimpleNamespace(matches=[match]), worlds=[[1, 2, 3]])

    def shown(bar: Any) -> str:
        with console.capture() as seen:
            console.print(bar.live.renderable)
        return seen.get()

    bar = play._Bar(run)
    bar.task = bar.progress.add_task("starting", total=3, rate=0.0)
    bar.working(Work(("preparing predcoin", "training F_Q, epochs"), 3, 50))
    clock[0] += 60
    assert "preparing predcoin: training F_Q, epochs, 3 of 50" in shown(bar)
    assert "queries/s" not in shown(bar)
    bar.working(None)
    assert "preparing" not in shown(bar)
    bar.match(match, 3)  # type: ignore[arg-type]
    assert "queries/s" not in shown(bar)
    clock[0] += 2
    bar.played(100)
    assert "50 queries/s" in shown(bar), "while it played: what was prepared for a minute does not count"
