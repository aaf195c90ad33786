"""A film holds what was sent in one game: images, and the log's rows of them at any level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from arena.log import open_log, questions
from arena.running.filming import Film, film
from arena.running.replaying import Replayer


def shot(log: Path, match: int) -> Film:
    """The longest game of a match."""
    with open_log(log, create=False) as book, Replayer(book) as replayer:
        games = questions.outcomes(book, match)
        place = int(np.argmax(np.where([why == "clean" for why in games.reason], -1, games.queries)))
        return film(replayer, int(games.game[place]))


@pytest.fixture(scope="module")
def log(replays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return replays.play(tmp_path_factory.mktemp("films") / "run.db", games=4)


def test_images_are_those_of_the_rows(log: Path) -> None:
    found = shot(log, 2)
    assert found.checked is not None and found.checked.passed and found.checked.how == "bits"
    assert found.images is not None and found.clean is not None
    assert found.at.tolist() == found.rows.turn.tolist() == list(range(1, found.game.queries + 1))
    far = np.abs(found.images - found.clean).reshape(len(found.images), -1)
    assert np.allclose(far.max(axis=1), found.rows.linf, atol=1e-6)
    assert np.allclose(np.sqrt((far.astype(np.float64) ** 2).sum(axis=1)), found.rows.l2, atol=1e-5)
    with open_log(log, create=False) as book:
        logged = questions.transcript(book, found.game.id)
    assert logged.margin.tolist() == found.rows.margin.tolist()
    assert logged.purpose == found.rows.purpose


@pytest.mark.parametrize("level", ["games", "changes"])
def test_all_queries_are_there_whatever_the_log_holds(replays, tmp_path: Path, level: str) -> None:
    path = replays.play(tmp_path / "run.db", games=3, defenders=["none"], log=level)
    found = shot(path, 1)
    assert found.checked is not None and found.checked.passed and found.checked.how == "bits"
    assert len(found.rows) == found.game.queries > found.checked.comparison.rows["queries"] / 3


def test_of_long_games_some_images_are_kept_and_the_last(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arena.running.filming.MOST_IMAGES", 7)
    found = shot(log, 1)
    assert found.images is not None and len(found.images) == len(found.at) <= 8
    assert found.at[0] == 1 and found.at[-1] == found.game.queries
    assert len(found.rows) == found.game.queries
