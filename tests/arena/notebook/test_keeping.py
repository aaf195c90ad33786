"""Calls in logs, and pages of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import arena
from arena.log import LogError, open_log, questions
from arena.notebook.image_sets import image_set, write_image_set
from arena.players import Attacker, Games, Needs, Play
from arena.report.summary import read_rows, read_run


@dataclass(frozen=True)
class ToBudget(Attacker):
    """Asks for noise; its schedule belongs to its budget."""

    needs = Needs(prefix=False)

    def play(self, games: Games) -> Play:
        while len(i := games.open):
            noise = 2 * games.uniform(games.x0.shape[1:], i) - 1
            yield from games.ask(games.project(games.x0[i] + games.epsilon * noise, i), i)


@pytest.fixture(scope="module")
def given():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 4))
    images = torch.rand(12, 1, 6, 6) * 0.6 + 0.2
    labels = model(images).argmax(1)
    labels[3] = (labels[3] + 1) % 4
    return {
        "classifier": model,
        "images": images,
        "labels": labels,
        "threat": {"epsilon": 0.15, "budget": 20},
    }


def test_a_call_is_a_run_like_the_runner_s(given, tmp_path) -> None:
    path = tmp_path / "runs" / "mine.db"
    snd = {"name": "snd", "sigma": 0.1}
    results = arena.play_all(["square", ToBudget], ["none", snd], **given, at=[5], shard=5, log=path)
    again = arena.play("square", snd, **given, at=[5], shard=5, log=path)
    with open_log(path, create=False) as log:
        runs = questions.runs(log)
        assert [run.info.scenario for run in runs] == ["arena.play"] * 2
        assert all(run.ended for run in runs)
        rows = read_rows(log, runs[0].id)
        assert len(rows) == 6, "an attacker without prefixes plays once a count"
        assert [row.match.info.title for row in rows][2:] == ["5 queries", "20 queries"] * 2
        logged = {(r.match.info.attacker_title, r.match.info.defender_title): r for r in rows}
        for pair, result in results.items():
            row = logged[pair]
            assert row.match.info.verdict == result.headline
            assert row.headline.value == pytest.approx(result.accuracy())
            assert row.shards == 3
            assert row.reasons == {"clean": 1, **result.endings}
        (own,) = read_rows(log, runs[1].id)
        assert own.match.id not in {row.match.id for row in rows}, "a call is never found again"
        assert own.headline.value == pytest.approx(again.accuracy())
        games = questions.outcomes(log, own.match.id)
        (transcript,) = [questions.transcript(log, int(g)) for g in games.game[games.image == 0]]
        assert len(transcript) == again.queries[0]


def test_a_page_is_the_report_s_with_the_images_played_on(given, tmp_path) -> None:
    results = arena.play_all(["square", ToBudget], ["none"], **given, at=[5])
    page = results.report(tmp_path / "page.html").read_text(encoding="utf-8")
    for text in ("square", "ToBudget", "5 queries", "(not kept)", "data:image/png"):
        assert text in page, text
    assert "Originals are not shown" not in page
    assert str(results["square", "none"].match.dataset_sha) in page
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises(ValueError, match="it is a folder; give a file in it"):
        results.report(tmp_path)
    with pytest.raises(ValueError, match="cannot be written to"):
        results.report(tmp_path / "page.html" / "page.html")


def test_a_log_that_cannot_be_made_is_said_before_anything_is_played(given, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LogError, match=r"the folder .* for the log cannot be made"):
        arena.play("square", **given, log=tmp_path / "file" / "x.db")


def test_few_images_are_a_data_set_in_which_each_keeps_its_number(tmp_path) -> None:
    images = np.linspace(0, 1, 3 * 4, dtype=np.float32).reshape(3, 1, 2, 2)
    labels = np.array([2, 0, 1])
    dataset = image_set(images, labels)
    assert torch.equal(dataset.games.source[:3], torch.from_numpy(images))
    said = write_image_set(tmp_path / "x.npz", images, labels)
    from arena.datasets import DatasetSpec, load_dataset

    assert load_dataset(DatasetSpec(**said)).sha == dataset.sha


def test_the_last_run_is_the_one_that_a_report_shows(given, tmp_path) -> None:
    arena.play("square", **given, log=tmp_path / "x.db")
    with open_log(tmp_path / "x.db", create=False) as log:
        assert read_run(log).info.title == "square against none"
