"""`arena play`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

from arena.classifiers import Classifier
from arena.cli.console import INTERRUPTED, CommandError, err, out, say
from arena.cli.scenarios import read_scenario
from arena.datasets import DatasetError
from arena.log import LogError, open_log
from arena.report import print_results
from arena.running.runner import Run
from arena.scenario.jobs import shard_count
from arena.scenario.lineups import UNCHANGED, Changes
from arena.scenario.matches import Match

BYTES_PER_ROW = 64
"""Bytes per query in a SQLite log, index included (measured with `make bench`)."""


def ready(
    file: str,
    data: Sequence[Path],
    device: str,
    games: int | None,
    size: str | None,
    changes: Changes = UNCHANGED,
) -> Run:
    """A scenario ready to be played, in its default or another size, with its lists of agents changed."""
    scenario = read_scenario(file, size, changes)
    for left_out in scenario.left_out:
        err.print(f"[yellow]left out:[/] {escape(str(left_out))}", highlight=False, soft_wrap=True)
    if games is not None:
        scenario = scenario.with_games(games)
    run = Run(scenario, device=device, data_dirs=data)
    for remark in dict.fromkeys(r for world in run.worlds for r in world.classifier.remarks):
        err.print(f"[yellow]remark:[/] {escape(remark)}", highlight=False, soft_wrap=True)
    return run


def where_to_log(log: str | None, run: Run) -> str:
    """The path or URL of a run's log."""
    if log is not None and not log.strip():
        raise CommandError(f"--log: found {log!r}; it must be a path or a database URL")
    return log or f"runs/{'-'.join(filter(None, (run.scenario.name, run.scenario.size)))}.db"


def play_command(run: Run, where: str, *, fresh: bool) -> int:
    """Play a run, log it and print its results; returns the exit status."""
    name = where
    try:
        _make_folder(where)
        with open_log(where) as book:
            name = book.name
            with _Bar(run) as bar:
                run_id, played = run.play(book, bar, fresh=fresh)
        with open_log(where, create=False) as book:
            if not played:
                say(f"{name} holds this run already (run {run_id}); --fresh plays it again")
            elif bar.found:
                say(f"{name} held {bar.found} of the {bar.total} games already")
            print_results(out, book, run_id)
    except KeyboardInterrupt:
        err.print(f"[yellow]interrupted[/]: {_safe(name)}", highlight=False, soft_wrap=True)
        return INTERRUPTED
    except (LogError, DatasetError) as error:
        err.print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        if isinstance(error, DatasetError):  # an image that could not be read when it was needed
            err.print(_safe(name), highlight=False, soft_wrap=True)
        return 1
    except Exception:
        err.print(f"[red]the run failed[/]: {_safe(name)}", highlight=False, soft_wrap=True)
        raise
    say(f"log: {name}")
    return 0


def _make_folder(where: str) -> None:
    if "://" in where:
        return
    folder = Path(where).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LogError(f"the folder {folder} for the log cannot be made: {error.strerror}") from error


def _safe(name: str) -> str:
    return escape(f"finished shards are safe in {name}; the same command goes on from them")


class _Bar:
    """Progress on the terminal: games done, queries per second, time left."""

    def __init__(self, run: Run) -> None:
        matches = zip(run.scenario.matches, run.worlds, strict=True)
        self.total = sum(len(world) * match.settings.repeats for match, world in matches)
        self.matches = len(run.scenario.matches)
        self.count = self.queries = self.found = 0
        self.began = time.monotonic()
        self.progress = Progress(
            TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=10, table_column=Column(no_wrap=True)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TextColumn("games, {task.fields[rate]:,.0f} queries/s", table_column=Column(no_wrap=True)),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TextColumn("left", table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            console=err,
            expand=True,
            refresh_per_second=4,
        )
        self.task: TaskID | None = None

    def __enter__(self) -> _Bar:
        self.progress.start()
        self.task = self.progress.add_task("starting", total=self.total, rate=0.0)
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def match(self, match: Match, games: int) -> None:
        self.count += 1
        self._update(description=escape(f"{self.count}/{self.matches} {match.name}"))

    def played(self, queries: int) -> None:
        self.queries += queries
        self._update()

    def ended(self, games: int, skipped: bool) -> None:
        self.found += games * skipped
        self._update(advance=games)

    def _update(self, **changes: Any) -> None:
        assert self.task is not None
        rate = self.queries / max(1e-9, time.monotonic() - self.began)
        self.progress.update(self.task, rate=rate, **changes)


def expect(run: Run) -> None:
    """Print the size of a run: matches, queries, rows, bytes and time."""
    table = Table(title=escape(run.scenario.title))
    for name in ("match", "games", "shards", "queries at most", "time at least"):
        table.add_column(name, justify="left" if name == "match" else "right")
    seconds = 0.0
    rates = {g.classifier: _seconds_per_row(g.classifier) for g in run.worlds}
    for match, world in zip(run.scenario.matches, run.worlds, strict=True):
        queries = match.settings.games * match.settings.repeats * match.threat.budget
        own = queries * rates[world.classifier]
        seconds += own
        table.add_row(
            escape(match.name),
            str(match.settings.games * match.settings.repeats),
            str(shard_count(match, world)),
            f"{queries:,}",
            _duration(own),
        )
    out.print(table)
    queries = run.expected_queries
    rows = 0 if run.level == "games" else queries
    logged = {"queries": "every query", "changes": "what changes a game", "games": "no queries"}[run.level]
    say(
        f"{len(run.scenario.matches)} matches, {queries:,} queries at most; logged: {logged}"
        f" ({rows:,} rows, about {rows * BYTES_PER_ROW / 1e6:,.0f} MB at most)"
    )
    say(
        f"time at least {_duration(seconds)} on {run.device} if every query is used:"
        " by the bare forward pass alone, without verdicts and defenders"
    )


def _seconds_per_row(classifier: Classifier) -> float:
    """Seconds of the bare forward at the resolved batch size, measured."""
    x = torch.rand(classifier.batch, *classifier.shape, device=classifier.device)
    classifier(x)
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        classifier(x).cpu()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) / len(x)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
