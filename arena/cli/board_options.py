"""The words of `arena board`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from arena.cli.ending import plain_errors
from arena.cli.options import Trust


def board(
    logs: Annotated[
        list[str] | None, typer.Argument(metavar="LOG...", help="Logs: paths or database URLs.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--out", help="The HTML file; beside the first log by default.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="A table of the cells, too; ranks in NAME-ranks beside it.")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="All that the board says, as JSON.")] = None,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="As --csv, in Parquet.")] = None,
    at: Annotated[int | None, typer.Option(min=1, help="One query count alone; all by default.")] = None,
    knowledge: Annotated[
        str | None,
        typer.Option(help="Matches alone whose attackers know this: none, surrogates, ..."),
    ] = None,
    threat: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE, such as norm=linf: matches with that rule alone.")
    ] = None,
    run: Annotated[int | None, typer.Option(min=1, help="The matches of one run alone.")] = None,
    cap_accuracy: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Percent of clean accuracy that a mixture of defenders may lose."),
    ] = None,
    cap_delay: Annotated[
        float | None, typer.Option(min=0, help="Times the undefended seconds per query that it may take.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Of the page.")] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="Where data sets lie, for the clean images.")
    ] = None,
    submit: Annotated[
        list[Path] | None,
        typer.Option(help="A submission's folder: checked by playing shards of it again; may be repeated."),
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="With --submit: how many shards are played again.")] = 5,
    seed: Annotated[
        int | None, typer.Option(help="With --submit: which ones; a new draw by default.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="With --submit: where to play; the kind that played by default.")
    ] = None,
    trust: Trust = None,
    secret_seed: Annotated[
        Path | None,
        typer.Option(help="The secret with which ranked runs were played: it is published on the board."),
    ] = None,
    spend: Annotated[
        int | None,
        typer.Option(min=1, help="First play up to so many further games where they decide a rank."),
    ] = None,
) -> None:
    """Judge what logs hold: what is left, ranks, worst cases, a mixture; in the terminal, and as a page.

    Several logs are merged; where they contradict each other, both are shown and no rank is made.
    """
    from arena.cli.board import Submitted, Wanted, board_command, spend_command

    words = [*(threat or []), *([f"knowledge={knowledge}"] if knowledge else [])]
    with plain_errors():
        wanted = Wanted(
            to,
            csv,
            json,
            parquet,
            at,
            words,
            run,
            cap_accuracy,
            cap_delay,
            title or "",
            data or [],
            secret_seed,
        )
        if spend is not None:
            spend_command(logs or [], wanted, spend, device)
        submitted = Submitted(submit or [], sample, seed, device, trust or [])
        raise typer.Exit(board_command(logs or [], wanted, submitted))
