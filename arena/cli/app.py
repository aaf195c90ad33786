"""The command `arena`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from arena.cli.ending import Commands, plain_errors
from arena.cli.log_app import log_app
from arena.cli.options import Device, Json, Trust
from arena.interruptions import end_quietly

app = typer.Typer(
    cls=Commands,
    help="A game simulator for query-based black-box attacks on image classifiers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
agents_app = typer.Typer(help="The attackers and defenders that are installed.", invoke_without_command=True)
app.add_typer(agents_app, name="agents")
data_app = typer.Typer(
    help="The data sets: where they lie, and how to get them.", invoke_without_command=True
)
app.add_typer(data_app, name="data")
app.add_typer(log_app)


def main() -> None:
    """Entry point of the console command."""
    end_quietly()
    sys.path.append(str(Path.cwd()))  # for a user's own agents and networks; installed modules win
    app()


def _say_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"blackbox-arena {version('blackbox-arena')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Say which version this is.", callback=_say_version, is_eager=True),
    ] = False,
) -> None:
    """A game simulator for query-based black-box attacks on image classifiers."""


@app.command()
def play(
    file: Annotated[
        str | None,
        typer.Argument(help="A scenario file, or the name of a packaged one; without it, these are listed."),
    ] = None,
    log: Annotated[str | None, typer.Option(help="Where to log: a path or a database URL.")] = None,
    data: Annotated[list[Path] | None, typer.Option(help="Where data sets and weights lie.")] = None,
    device: Device = "auto",
    size: Annotated[
        str | None, typer.Option(help="One of the file's sizes; without it, the one it names as its default.")
    ] = None,
    games: Annotated[
        int | None, typer.Option(min=1, max=2**24, help="Games a match, in place of the file's.")
    ] = None,
    attacker: Annotated[
        list[str] | None,
        typer.Option(help="In place of the file's attackers: NAME, NAME:KEY=VALUE,..., a table, or all."),
    ] = None,
    defender: Annotated[
        list[str] | None, typer.Option(help="In place of the file's defenders; likewise.")
    ] = None,
    add_attacker: Annotated[
        list[str] | None, typer.Option(help="Beside the attackers; may be repeated, as all of these.")
    ] = None,
    add_defender: Annotated[list[str] | None, typer.Option(help="Beside the defenders.")] = None,
    trust: Trust = None,
    secret_seed: Annotated[
        Path | None,
        typer.Option(help="A ranked run: the file of a secret from which all draws come (docs/boards.md)."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be played, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: say it as JSON.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Play again what the log holds already.")] = False,
    workers: Annotated[
        str | None,
        typer.Option(help="Play in so many processes: a number, or auto for one a core.", metavar="N"),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(help="Play on a Ray cluster: local, auto, or its host:port.", metavar="ADDRESS"),
    ] = None,
) -> None:
    """Play the matches of a scenario; one that was interrupted goes on where it stopped."""
    if file is None:
        from arena.cli.scenarios import no_file

        raise typer.Exit(no_file())
    from arena.cli.agent_words import changes
    from arena.cli.console import CommandError
    from arena.cli.plan_json import say_plan
    from arena.cli.play import expect, play_command, ready, where_to_log
    from arena.cli.workers import WorkersWanted

    with plain_errors():
        if as_json and not dry_run:
            raise CommandError("--json: it says what a --dry-run finds; give both")
        lists = changes(attacker or [], defender or [], add_attacker or [], add_defender or [])
        wanted = WorkersWanted.of_words(workers, ray)
        run = ready(file, data or [], device, games, size, lists, trust or [], wanted, secret_seed)
        where = where_to_log(log, run)
        if dry_run:
            say_plan(run, where) if as_json else expect(run, where)
            return
    raise typer.Exit(play_command(run, where, fresh=fresh, pool=wanted.pool))


@agents_app.callback()
def agents(context: typer.Context, as_json: Json = False) -> None:
    """List the agents that are installed."""
    if context.invoked_subcommand is not None:
        return
    from arena.cli.agents import agents_command

    agents_command(as_json)


@agents_app.command()
def show(
    name: Annotated[str, typer.Argument(help='A name, or "module:Class".')], as_json: Json = False
) -> None:
    """Show what an agent is, what it needs, which parameters it takes, and a scenario that plays it."""
    from arena.cli.agents import show_command

    with plain_errors():
        show_command(name, as_json)


@app.command()
def scenarios(as_json: Json = False) -> None:
    """List the scenarios that come with the arena."""
    from arena.cli.scenarios import scenarios_command

    with plain_errors():
        raise typer.Exit(scenarios_command(as_json))


@app.command()
def check(
    agent: Annotated[str, typer.Argument(help='NAME or "module:Class", with :KEY=VALUE,... or as a table.')],
) -> None:
    """Put an agent through the conformance checks."""
    from arena.cli.check import check_command

    with plain_errors():
        raise typer.Exit(check_command(agent))


@app.command()
def networks(as_json: Json = False) -> None:
    """List the networks and the recipes to train them by."""
    from arena.cli.networks import networks_command

    raise typer.Exit(networks_command(as_json))


@app.command()
def train(
    network: Annotated[str, typer.Argument(help='A network by name, or "module:Class".')],
    dataset: Annotated[str, typer.Argument(help="A data set by name.")],
    out: Annotated[
        Path | None, typer.Option(help="The weights file; weights/NETWORK_DATASET.safetensors by default.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="A recipe by name; the network's by default.")] = None,
    epochs: Annotated[int | None, typer.Option(help="In place of the recipe's.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of the recipe, in place of its own.")
    ] = None,
    param: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for the network.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Another seed, other weights.")] = 0,
    device: Device = "auto",
    data: Annotated[list[Path] | None, typer.Option(help="Where data sets lie.")] = None,
    path: Annotated[str | None, typer.Option(help="The data set's file or folder.")] = None,
    size: Annotated[
        int | None, typer.Option(min=8, max=4096, help="Height and width to bring images to.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="For torch to compute in.")] = None,
    every: Annotated[float, typer.Option(min=0, help="Seconds between two checkpoints.")] = 60.0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over, and replace what there is.")] = False,
) -> None:
    """Train a network by a recipe; a training that was interrupted goes on where it stopped."""
    from arena.cli.train import assignments, changes, make_job, train_command
    from arena.datasets import DatasetSpec

    with plain_errors():
        name, job = make_job(
            network,
            DatasetSpec(name=dataset, path=path, size=size),
            recipe,
            changes(change or [], epochs),
            assignments("--param", param or []),
            seed=seed,
            device=device,
            data=data or [],
            threads=threads,
        )
        raise typer.Exit(train_command(job, name, out, every=every, fresh=fresh))


@app.command()
def evaluate(
    file: Annotated[str | None, typer.Argument(help="A scenario; without one, the options say what.")] = None,
    size: Annotated[str | None, typer.Option(help="One of the scenario's sizes.")] = None,
    dataset: Annotated[str | None, typer.Option(help="A name, or JSON as in a scenario.")] = None,
    network: Annotated[
        str | None, typer.Option(help='A name, "module:Class", or JSON as a scenario\'s classifier.')
    ] = None,
    weights: Annotated[str | None, typer.Option(help="A file of weights.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, tf32 or bf16.")] = None,
    defender: Annotated[
        list[str] | None, typer.Option(help="A name, or JSON as in a scenario; may be repeated.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="games, calibration, train, resources, or several with + between.")
    ] = "games",
    images: Annotated[int | None, typer.Option(min=1, help="How many, drawn evenly; all by default.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, max=4096, help="Rows per forward pass.")] = None,
    answers: Annotated[
        int | None, typer.Option(min=2, help="Answers to each image, to tell how far draws spread the loss.")
    ] = None,
    benign: Annotated[
        str | None,
        typer.Option(help="Benign clients of each kind: a number, or JSON as in a scenario."),
    ] = None,
    device: Device = "auto",
    data: Annotated[list[Path] | None, typer.Option(help="Where data sets and weights lie.")] = None,
    trust: Trust = None,
    picture: Annotated[
        Path | None, typer.Option(help="Probability and accuracy along the images: .png, .svg or .pdf.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure accuracy, calibration and cost of classifiers and defenders on clean images."""
    from arena.cli.console import CommandError
    from arena.cli.evaluate import (
        Options,
        benign_of,
        evaluate_command,
        world_of_words,
        worlds_of_file,
    )

    with plain_errors():
        clients = benign_of(benign)
        options = Options(
            device, data or [], split, images, batch, as_json, picture, trust or [], answers, clients
        )
        named = {"dataset": dataset, "network": network, "weights": weights, "precision": precision}
        if file is None:
            if size is not None:
                raise CommandError("--size: it is one of a scenario's; name the scenario, too")
            worlds, folders = [world_of_words(named, defender or [])], list[Path]()
        else:
            worlds, folders = worlds_of_file(file, [*named.values(), defender], size)
        raise typer.Exit(evaluate_command(worlds, folders, options))


@data_app.callback()
def data(
    context: typer.Context,
    data: Annotated[list[Path] | None, typer.Option(help="Where data sets lie.")] = None,
    as_json: Json = False,
) -> None:
    """List the data sets: whether they are found, and where."""
    from arena.cli.data import list_command

    if context.invoked_subcommand is None:
        with plain_errors():
            raise typer.Exit(list_command(data or [], as_json))


@data_app.command()
def get(
    name: Annotated[str, typer.Argument(help="A data set's name.")],
    to: Annotated[
        Path | None, typer.Option(help="The folder to put it in; the user's cache by default.")
    ] = None,
) -> None:
    """Fetch a data set, checked against its checksums."""
    from arena.cli.data import get_command

    with plain_errors():
        raise typer.Exit(get_command(name, to))


if __name__ == "__main__":
    sys.exit(cast(Any, main)())
