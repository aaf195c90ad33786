"""The commands of `arena` that ask logs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from arena.cli.board_options import board
from arena.cli.ending import plain_errors
from arena.cli.options import Json, LogPlace, SecretSeed, Trust

log_app = typer.Typer()


@log_app.command()
def audit(
    log: LogPlace,
    run: Annotated[int | None, typer.Option(help="Which run alone; all of the log by default.")] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Play some games again, under other rules, as well.")
    ] = False,
    games: Annotated[int, typer.Option(min=1, help="With --replay: how many games of a match.")] = 20,
    data: Annotated[list[Path] | None, typer.Option(help="Where data sets and weights lie.")] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps; the kind that played by default.")
    ] = None,
    trust: Trust = None,
    secret_seed: SecretSeed = None,
    as_json: Json = False,
) -> None:
    """Look for figures that come from weak attacks, luck or too few games."""
    from arena.cli.audit import Replaying, audit_command

    with plain_errors():
        replaying = Replaying(games, data or [], device, trust or [], secret_seed) if replay else None
        raise typer.Exit(audit_command(log, run, as_json, replaying))


@log_app.command()
def report(
    log: Annotated[str, typer.Argument(help="A log: a path or a database URL.")],
    to: Annotated[Path | None, typer.Option("--out", help="The HTML file to write.")] = None,
    run: Annotated[int | None, typer.Option(help="Which run; the last one by default.")] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="Where data sets lie, for the clean images.")
    ] = None,
) -> None:
    """Write a run's report: one self-contained HTML file."""
    from arena.cli.report import report_command

    with plain_errors():
        raise typer.Exit(report_command(log, to, run, data or []))


log_app.command()(board)


@log_app.command()
def runs(log: LogPlace, as_json: Json = False) -> None:
    """List the runs of a log: what they are, how far they are, and how much was played."""
    from arena.cli.runs import runs_command

    with plain_errors():
        raise typer.Exit(runs_command(log, as_json))


@log_app.command()
def compare(
    log: LogPlace,
    a: Annotated[int, typer.Argument(help="A run, by its number in `arena runs`.")],
    b: Annotated[int, typer.Argument(help="Another run.")],
    as_json: Json = False,
) -> None:
    """Compare two runs, match by match on the same images: what differs, and how much more is won."""
    from arena.cli.compare import compare_command

    with plain_errors():
        raise typer.Exit(compare_command(log, a, b, as_json))


@log_app.command()
def export(
    log: LogPlace,
    to: Annotated[Path | None, typer.Option("--out", help="The folder; LOG-export by default.")] = None,
    run: Annotated[int | None, typer.Option(help="One run alone; all by default.")] = None,
    form: Annotated[str, typer.Option("--format", help="Of the tables: csv, json or parquet.")] = "csv",
    table: Annotated[
        list[str] | None, typer.Option(help="One table alone; may be repeated. All by default.")
    ] = None,
    images: Annotated[
        list[str] | None, typer.Option(help="The final images as png or npz; may be repeated.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files of the same names.")] = False,
) -> None:
    """Write a log's tables, and if asked its final images, into a folder."""
    from arena.cli.export import Wanted, export_command

    with plain_errors():
        raise typer.Exit(export_command(log, Wanted(to, run, form, table or (), images or (), force)))


@log_app.command()
def replay(
    log: LogPlace,
    game: Annotated[int | None, typer.Argument(help="A game's id in the log.")] = None,
    match: Annotated[int | None, typer.Option(help="In place of the id: a match's id, with --image.")] = None,
    image: Annotated[int | None, typer.Option(help="The number of the game's image.")] = None,
    repeat: Annotated[int, typer.Option(min=0, help="Which replay of the match.")] = 0,
    data: Annotated[list[Path] | None, typer.Option(help="Where data sets and weights lie.")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, ...; the kind that played, if it is here, by default.")
    ] = None,
    scenario: Annotated[
        str | None, typer.Option(help="The scenario, for agents and places that the log does not name.")
    ] = None,
    trust: Trust = None,
    secret_seed: SecretSeed = None,
    picture: Annotated[Path | None, typer.Option(help="Write a picture: .png, .svg or .pdf.")] = None,
    animation: Annotated[Path | None, typer.Option(help="Write an animation: .gif, or .mp4.")] = None,
) -> None:
    """Play one game of a log again from its seeds, show how it went, and check it against the log."""
    from arena.cli.replay import Wanted, replay_command

    with plain_errors():
        own = (data or [], device, scenario, trust or [], picture, animation, secret_seed)
        wanted = Wanted(game, match, image, repeat, *own)
        raise typer.Exit(replay_command(log, wanted))


@log_app.command()
def sql(
    log: LogPlace,
    statement: Annotated[str, typer.Argument(metavar="STATEMENT", help="One statement that only reads.")],
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV, all rows.")] = False,
    as_json: Json = False,
    rows: Annotated[int, typer.Option(min=1, help="So many rows are shown on the terminal.")] = 100,
) -> None:
    """Ask a log a question of your own, in SQL; nothing can be changed by it."""
    from arena.cli.sql import sql_command

    with plain_errors():
        raise typer.Exit(sql_command(log, statement, as_csv=as_csv, as_json=as_json, most=rows))
