"""`arena replay`: a game is shown and checked; the exit status says whether the log is confirmed."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from arena.cli.app import app
from arena.log import open_log, questions


def arena(*words: str, **options) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False, **options)
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture(scope="module")
def log(replays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return replays.play(tmp_path_factory.mktemp("replay") / "run.db")


def played(log: Path, match: int = 2):
    """A game that was played."""
    with open_log(log, create=False) as book:
        games = questions.outcomes(book, match)
        place = [why != "clean" for why in games.reason].index(True)
        return int(games.game[place]), int(games.image[place]), int(games.queries[place])


def test_a_game_is_confirmed(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arena.report.game_pictures.FRAMES", 3)
    game, image, queries = played(log)
    picture, animation = tmp_path / "game.png", tmp_path / "game.gif"
    code, said = arena(
        "replay", str(log), str(game), "--picture", str(picture), "--animation", str(animation)
    )
    assert code == 0
    assert f"game {game}: square against snd, image {image} of digits" in said
    assert f"checked: {queries} queries equal to the log's, bit for bit" in said
    assert "loss" in said and "search" in said and "the answered label" in said
    assert Image.open(picture).size > (600, 400)
    assert Image.open(animation).n_frames == 3
    assert (
        arena("replay", str(log), "--match", "2", "--image", str(image))[1] == said.partition(" picture: ")[0]
    )


def test_a_game_that_differs_ends_with_1(replays, log: Path) -> None:
    game, _, _ = played(log)
    fraud = replays.tampered(
        log, f"UPDATE games SET vote = 1 - vote, answered = 1 - answered WHERE id = {game}"
    )
    code, said = arena("replay", str(fraud), str(game))
    assert code == 1
    assert "differs from the log, though machine, versions and code are the same: games.answered" in said
    code, said = arena("replay", str(fraud), str(game + 1))
    assert code == 1
    assert "the game equals the log's, bit for bit, but 1 other games of its shard do not" in said


def test_another_version_says_so(replays, log: Path) -> None:
    other = replays.tampered(log, "UPDATE matches SET fingerprint = 'another'")
    code, said = arena("replay", str(other), str(played(log)[0]))
    assert (
        code == 0 and "so that the same bits are not promised: the game equals the log's all the same" in said
    )
    assert "agree within tolerance" in said


def test_what_cannot_be_played_is_shown_from_the_log_alone(replays, log: Path, tmp_path: Path) -> None:
    game, _, queries = played(log)
    gone = replays.tampered(log, "UPDATE runs SET resolved = replace(resolved, '\"square\"', '\"gone\"')")
    file = tmp_path / "game.svg"
    code, said = arena("replay", str(gone), str(game), "--picture", str(file))
    assert code == 3
    assert 'not checked: match 2 cannot be made again: there is no attacker "gone"' in said
    assert "what is shown is what the log holds" in said and f"after {queries} of 20 queries" in said
    assert file.read_text().startswith("<?xml")


def test_images_are_drawn_where_there_are_colours(log: Path) -> None:
    colours = {"FORCE_COLOR": "1", "COLORTERM": "truecolor"}
    from rich.console import Console

    from arena.report.game_terminal import print_game
    from arena.running.filming import film
    from arena.running.replaying import Replayer

    console = Console(force_terminal=True, color_system="truecolor", width=110, record=True, _environ=colours)
    with console.capture() as written, open_log(log, create=False) as book, Replayer(book) as replayer:
        assert print_game(console, film(replayer, played(log)[0]))
    assert "\x1b[38;2;" in written.get() and "▀" in written.get()


def test_an_mp4_needs_ffmpeg(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arena.report.game_pictures.shutil.which", lambda name: None)
    code, said = arena("replay", str(log), "1", "--animation", "x.mp4")
    assert code == 2 and "an mp4 needs the program ffmpeg, which is not here; name a .gif" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "give the game's id in the log, or --match and --image"),
        (("1", "--match", "1"), "found both"),
        (("999",), "has no game 999 in a finished shard"),
        (("--match", "9", "--image", "1"), "has no match 9"),
        (("--match", "1", "--image", "123456"), "has no game on image 123456 (repeat 0)"),
        (("1", "--picture", "x.bmp"), "the name must end with one of .png, .svg, .pdf"),
        (("1", "--animation", "nowhere/x.gif"), "there is no folder nowhere"),
    ],
)
def test_bad_words_are_one_sentence(log: Path, words: tuple[str, ...], says: str) -> None:
    code, said = arena("replay", str(log), *words)
    assert code == 2 and says in said
