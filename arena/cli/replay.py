"""`arena replay`: one game, played again from its seeds and checked against the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape
from sqlalchemy import select

from arena.classifiers import ClassifierError
from arena.cli.console import CommandError, Remarks, err, out, say
from arena.datasets import DatasetError
from arena.game.blame import DefenderError
from arena.log import Log, open_log, questions
from arena.progress import hearing
from arena.report.game_pictures import MOVING, STILLS, animate_game, can_write, draw_game
from arena.report.game_terminal import print_game
from arena.running.filming import Film, film, logged_film
from arena.running.rebuilding import ReplayError
from arena.running.replaying import Replayer
from arena.scenario.errors import ScenarioError
from arena.scenario.files import load_scenario
from arena.scenario.matches import Match
from arena.scenario.seeds import PUBLIC, read_secret

DIFFERS = 1
"""The exit status where a game is another than the log says, though machine and versions are the same, or
where what is played here is beyond tolerance."""
NOT_CHECKED = 3
"""The exit status where the game cannot be played again here."""


@dataclass(frozen=True)
class Wanted:
    """Which game, and what of it.

    Attributes:
        game: its id in the log; None: by match, image and repeat.
        scenario: its file, for what the log does not say of agents and places.
        picture, animation: the files to write.
        secret: the file of the secret that a ranked run was played with.
    """

    game: int | None
    match: int | None = None
    image: int | None = None
    repeat: int = 0
    data: Sequence[Path] = ()
    device: str | None = None
    scenario: str | None = None
    trusted: Sequence[str] = ()
    picture: Path | None = None
    animation: Path | None = None
    secret: Path | None = None


def replay_command(log: str, wanted: Wanted) -> int:
    """Play a game of a log again, show it and check it; returns the exit status."""
    _check_files(wanted)
    known = _matches(wanted.scenario)
    with open_log(log, create=False) as book:
        game = _game(book, wanted)
        folder = Path(wanted.scenario).parent if wanted.scenario and Path(wanted.scenario).is_file() else None
        replayer = Replayer(
            book,
            data_dirs=wanted.data,
            device=wanted.device,
            trusted=wanted.trusted,
            known=known,
            folder=folder,
            seeds=PUBLIC if wanted.secret is None else read_secret(wanted.secret),
        )
        with hearing(Remarks()), replayer:
            found = _film(replayer, game)
            confirmed = print_game(out, found)
            _write(found, wanted)
    if found.checked is None:
        return NOT_CHECKED
    return 0 if confirmed else DIFFERS


def _film(replayer: Replayer, game: int) -> Film:
    try:
        return film(replayer, game)
    except (
        ReplayError,
        ScenarioError,
        ClassifierError,
        DatasetError,
        DefenderError,
        FileNotFoundError,
    ) as why:
        return logged_film(replayer.log, game, str(why).splitlines()[0])


def _matches(scenario: str | None) -> Sequence[Match]:
    return () if scenario is None else load_scenario(scenario).matches


def _game(log: Log, wanted: Wanted) -> int:
    """The id of the game that is wanted."""
    if wanted.game is not None:
        if wanted.match is not None or wanted.image is not None:
            raise CommandError("give the game's id, or --match and --image; found both")
        return wanted.game
    if wanted.match is None or wanted.image is None:
        raise CommandError("give the game's id in the log, or --match and --image")
    questions.match(log, wanted.match)
    games = questions.games.c
    where = (games.match_id == wanted.match, games.image == wanted.image, games.repeat == wanted.repeat)
    rows = questions.ask(log, select(games.id).where(*where))
    if not rows:
        game = f"game on image {wanted.image} (repeat {wanted.repeat})"
        raise CommandError(f"match {wanted.match} of {log.name} has no {game} in a finished shard")
    return int(rows[0].id)


def _check_files(wanted: Wanted) -> None:
    for option, file, kinds in (
        ("--picture", wanted.picture, STILLS),
        ("--animation", wanted.animation, MOVING),
    ):
        if file is None:
            continue
        if file.suffix.removeprefix(".") not in kinds:
            allowed = ", ".join(f".{kind}" for kind in kinds)
            raise CommandError(f'{option}: found "{file}"; the name must end with one of {allowed}')
        if not file.absolute().parent.is_dir():
            raise CommandError(f"{option}: there is no folder {file.parent}; create it first")
    if wanted.animation is not None and (why := can_write(wanted.animation)) is not None:
        raise CommandError(f"--animation: {why}")


def _write(found: Film, wanted: Wanted) -> None:
    try:
        if wanted.picture is not None:
            draw_game(found, wanted.picture)
            say(f"picture: {wanted.picture}")
        if wanted.animation is not None and found.images is None:
            said = "no animation is written: the log holds no images of queries, and the game sent none here"
            err.print(f"[yellow]remark:[/] {escape(said)}", highlight=False, soft_wrap=True)
        elif wanted.animation is not None:
            animate_game(found, wanted.animation)
            say(f"animation: {wanted.animation}")
    except OSError as error:
        raise CommandError(
            f"{error.filename or 'the file'} cannot be written: {error.strerror or error}"
        ) from error
