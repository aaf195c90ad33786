"""`arena play`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from arena.classifiers import Classifier, ClassifierError
from arena.cli.console import FAILED, CommandError, OutputLost, Remarks, err, out, say
from arena.cli.scenarios import check_trusted, read_scenario
from arena.cli.served import announce, report
from arena.cli.workers import NONE, WorkersWanted
from arena.datasets import DatasetError
from arena.inputs.places import unwritable
from arena.interruptions import promise
from arena.league.labels import labels_apart
from arena.log import LogError, open_log
from arena.log.database import parse_address
from arena.messages import one_line, quoted
from arena.players.parameters import parameters
from arena.progress import Work, hearing
from arena.report.terminal import print_results
from arena.running.call_plan import benign_images, preparing, served
from arena.running.crew import CrewError
from arena.running.room import BYTES_PER_ROW, Machine, in_words, remarks
from arena.running.runner import OpenPool, Run
from arena.running.workers import WorkerError
from arena.scenario.errors import ScenarioError
from arena.scenario.identity import networks_of
from arena.scenario.jobs import shard_count
from arena.scenario.lineups import UNCHANGED, Changes
from arena.scenario.matches import Match
from arena.scenario.seeds import PUBLIC, read_secret

TOLD = 5.0
"""Seconds from which on it is told how long preparing or measuring took."""


def ready(
    file: str,
    data: Sequence[Path],
    device: str,
    games: int | None,
    size: str | None,
    changes: Changes = UNCHANGED,
    trusted: Sequence[str] = (),
    wanted: WorkersWanted = NONE,
    secret: Path | None = None,
) -> Run:
    """A scenario ready to be played, in its default or another size, with its lists of agents changed;
    `trusted` functions may be called to make its networks. With the file of a secret it is a ranked run."""
    seeds = PUBLIC if secret is None else read_secret(secret)
    scenario = read_scenario(file, size, changes, seeds)
    for left_out in scenario.left_out:
        err.print(f"[yellow]left out:[/] {escape(str(left_out))}", highlight=False, soft_wrap=True)
    check_trusted(trusted, {name for match in scenario.matches for name in networks_of(match)})
    if games is not None:
        scenario = scenario.with_games(games)
    with hearing(terminal := Remarks()):
        run = Run(scenario, device=device, data_dirs=data, trusted=trusted, workers=wanted.planned)
    if wanted.elsewhere:
        run.check_sendable()
    remarks = [r for world in run.worlds for r in world.classifier.remarks]
    remarks += [r for world in run.worlds for one in world.surrogates for r in one.remarks]
    for remark in dict.fromkeys(remarks):
        terminal.remark(remark)
    return run


def where_to_log(log: str | None, run: Run) -> str:
    """The path or URL of a run's log."""
    if log is not None and not log.strip():
        raise CommandError(f"--log: found {quoted(log)}; it must be a path or a database URL")
    where = log or f"runs/{'-'.join(filter(None, (run.scenario.name, run.scenario.size)))}.db"
    path = parse_address(where).path
    if path is not None and (why := unwritable(path)) is not None:
        raise LogError(f"log {path} {why}")
    return where


def machine_of(run: Run, where: str) -> Machine:
    """What this machine has for a run that is logged at `where`."""
    return Machine.here(run.device, parse_address(where).path)


def tell_room(run: Run, machine: Machine) -> None:
    """Print what may not fit."""
    for remark in remarks(run.rows, machine):
        Remarks().remark(remark)


def play_command(run: Run, where: str, *, fresh: bool, pool: OpenPool | None = None) -> int:
    """Play a run, log it and print its results; returns the exit status."""
    name = where
    tell_room(run, machine_of(run, where))
    promise(lambda: _safe(name, fresh))
    try:
        _make_folder(where)
        with open_log(where) as book:
            name = book.name
            with _Bar(run) as bar, hearing(bar):
                run_id, played = run.play(book, bar, fresh=fresh, pool=pool)
        with open_log(where, create=False) as book:
            if not played:
                say(f"{name} holds this run already (run {run_id}); --fresh plays it again")
            elif bar.found:
                say(f"{name} held {bar.found} of the {bar.total} games already")
            if bar.elsewhere_played:
                say(f"other processes played {bar.elsewhere_played} of the {bar.total} games")
            failed = print_results(out, book, run_id)
        if played:
            report(run)
    except (LogError, DatasetError, ClassifierError, ScenarioError, CrewError, WorkerError) as error:
        err.print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        if not isinstance(error, LogError):  # an image, a service that failed when it was needed
            err.print(escape(_safe(name, fresh)), highlight=False, soft_wrap=True)
        return 1
    except OutputLost:
        raise
    except Exception:
        err.print(f"[red]the run failed[/]: {escape(_safe(name, fresh))}", highlight=False, soft_wrap=True)
        raise
    say(f"log: {name}")
    if failed:
        _say_failed(failed, len(run.scenario.matches))
    return FAILED if failed else 0


def play_quietly(run: Run, where: str) -> None:
    """Play a run into a log that is there, without its results.

    Raises:
        LogError: if the log cannot be written. Finished shards are safe.
    """
    tell_room(run, machine_of(run, where))
    promise(lambda: _safe(where, False))
    with open_log(where, create=False) as book, _Bar(run) as bar, hearing(bar):
        run.play(book, bar)


def _say_failed(failed: int, of: int) -> None:
    which = "the match" if of == 1 else f"{failed} of {of} matches"
    said = "games ended with error, as the warnings say; what an agent's author mends is played anew"
    err.print(f"[red]{which} failed:[/] {said}", highlight=False, soft_wrap=True)


def _make_folder(where: str) -> None:
    if "://" in where:
        return
    folder = Path(where).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LogError(f"the folder {folder} for the log cannot be made: {error.strerror}") from error


def _safe(name: str, fresh: bool) -> str:
    same = "the same command without --fresh" if fresh else "the same command"
    return f"finished shards are safe in {name}; {same} goes on from them"


class _Rate(ProgressColumn):
    """The queries per second, once there were any."""

    def render(self, task: Task) -> Text:
        rate = task.fields["rate"]
        return Text(f"games, {rate:,.0f} queries/s" if rate else "games")


class _Bar(Remarks):
    """Progress on the terminal: games done, queries per second, time left; and below it, while something else
    takes its time, what that is and how far."""

    def __init__(self, run: Run) -> None:
        matches = zip(run.scenario.matches, run.worlds, strict=True)
        self.total = sum(len(world) * match.settings.repeats for match, world in matches)
        self.names = labels(run)
        self.count = self.queries = self.found = self.elsewhere_played = 0
        self.told: set[tuple[int, str]] = set()
        self.progress = Progress(
            TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=10, table_column=Column(no_wrap=True)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            _Rate(table_column=Column(no_wrap=True)),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TextColumn("left", table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            console=err,
            expand=True,
        )
        self.other = Progress(TextColumn("{task.description}"), TimeElapsedColumn(), console=err)
        self.task: TaskID | None = None
        self.live = Live(Group(self.progress, self.other), console=err, refresh_per_second=4)
        self.began, self.elsewhere, self.began_work = time.monotonic(), 0.0, 0.0
        self.work: tuple[str, TaskID] | None = None

    def __enter__(self) -> _Bar:
        self.task = self.progress.add_task("starting", total=self.total, rate=0.0)
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.working(None)
        self.live.stop()
        if not err.is_terminal:  # there it leaves its last line open
            err.print()

    def match(self, match: Match, games: int) -> None:
        self.count += 1
        self._update(description=escape(f"{self.count}/{len(self.names)} {self.names[match.number]}"))

    def played(self, queries: int) -> None:
        self.queries += queries
        self._update()

    def failed(self, match: Match, games: int, said: str) -> None:
        if (match.number, said) not in self.told:
            self.told.add((match.number, said))
            name = self.names[match.number]
            err.print(f"[red]failed:[/] {escape(f'{name}: {said}')}", highlight=False, soft_wrap=True)

    def ended(self, games: int, skipped: bool) -> None:
        self.found += games * skipped
        self._update(advance=games)

    def ended_elsewhere(self, games: int) -> None:
        self.elsewhere_played += games
        self._update(advance=games)

    def working(self, work: Work | None) -> None:
        if self.work is not None and (work is None or work.what[0] != self.work[0]):
            self._stop_working(*self.work)
        if work is None:
            return
        if self.work is None:
            self.work, self.began_work = (work.what[0], self.other.add_task("")), time.monotonic()
        self.other.update(self.work[1], description=escape(str(work)))

    def _stop_working(self, what: str, task: TaskID) -> None:
        taken = time.monotonic() - self.began_work
        self.elsewhere += taken
        self.other.remove_task(task)
        self.work = None
        if taken >= TOLD:
            err.print(f"{escape(what)}: done in {_duration(taken)}", highlight=False)

    def _update(self, **changes: Any) -> None:
        assert self.task is not None
        playing = time.monotonic() - self.began - self.elsewhere
        self.progress.update(self.task, rate=self.queries / max(1e-9, playing), **changes)


def expect(run: Run, where: str) -> None:
    """Print the size of a run: matches, queries, rows, bytes and time, and what the machine has."""
    table = Table(title=escape(run.scenario.title))
    for name in ("match", "games", "shards", "queries at most", "time at least"):
        table.add_column(name, justify="left" if name == "match" else "right")
    seconds = 0.0
    plain = {g.classifier for g in run.worlds if not served(g.classifier)}
    rates = {classifier: _seconds_per_row(classifier) for classifier in plain}
    names = labels(run)
    for match, world in zip(run.scenario.matches, run.worlds, strict=True):
        queries = match.settings.games * match.settings.repeats * match.threat.budget
        own = queries * rates.get(world.classifier, 0.0)
        seconds += own
        table.add_row(
            escape(names[match.number]),
            str(match.settings.games * match.settings.repeats),
            str(shard_count(match, world)),
            f"{queries:,}",
            "" if served(world.classifier) else _duration(own),
        )
    out.print(table)
    queries = run.expected_queries
    logged = {"queries": "every query", "changes": "what changes a game", "games": "no queries"}[run.level]
    say(
        f"{len(run.scenario.matches)} matches, {queries:,} queries at most; logged: {logged}"
        f" ({run.rows:,} rows, about {run.rows * BYTES_PER_ROW / 1e6:,.0f} MB at most)"
    )
    machine = machine_of(run, where)
    has = {"of memory": machine.memory, "free on the disk of the log": machine.disk}
    say("this machine has " + ", ".join(f"{in_words(n)} {what}" for what, n in has.items() if n is not None))
    tell_room(run, machine)
    if rates:
        say(
            f"time at least {_duration(seconds)} on {run.device} if every query is used:"
            " by the bare forward pass alone, without verdicts and defenders"
        )
    for what in (*_to_prepare(run, rates), *_benign(run, rates)):
        say(what)
    announce(run)


def labels(run: Run) -> list[str]:
    """The matches' names, with what differs where two would have the same."""
    known = []
    for match, world in zip(run.scenario.matches, run.worlds, strict=True):
        own = {
            "block": match.block,
            "data": world.dataset.name,
            "classifier": world.classifier.title,
            **match.threat.model_dump(mode="json"),
            "attacker": parameters(match.attacker),
            "defenders": [parameters(d) for d in match.defenders],
        }
        known.append((match.name, own))
    return [one_line(label) for label in labels_apart(known)]


def _to_prepare(run: Run, rates: Mapping[Classifier, float]) -> Iterator[str]:
    """A sentence for each stack that is still to be prepared."""
    names, told = labels(run), set[tuple[int, str]]()
    for match, world in zip(run.scenario.matches, run.worlds, strict=True):
        key = (id(world.classifier), repr(match.defenders))
        if key in told or run.stacks.is_prepared(match, world):
            continue
        told.add(key)
        images = preparing(match, world)
        if None in images:
            much = "nobody can say how many images that asks of the classifier"
        elif (count := sum(filter(None, images))) == 0:
            continue
        else:
            rate = rates.get(world.classifier)
            at_least = "" if rate is None else f", {_duration(count * rate)} at least"
            much = f"about {count:,} images asked of the classifier{at_least}"
        yield f"to be prepared once, for {names[match.number]}: {match.defender_name}, {much}"


def _benign(run: Run, rates: Mapping[Classifier, float]) -> Iterator[str]:
    """A sentence on benign traffic, if the scenario has some."""
    stacks: dict[tuple[object, ...], tuple[int, float]] = {}
    for match, world in zip(run.scenario.matches, run.worlds, strict=True):
        if images := benign_images(match, world):
            key = (id(world.classifier), match.settings.seed, match.settings.benign, repr(match.defenders))
            stacks[key] = (images, images * rates.get(world.classifier, 0.0))
    if stacks:
        images, seconds = map(sum, zip(*stacks.values(), strict=True))
        time = f", {_duration(seconds)} at least" * bool(rates)
        yield (
            f"benign clients: {images:,} queries at most to {len(stacks)} defended "
            f"classifier{'s' * (len(stacks) > 1)}, those of sessions to the undefended one, too{time}"
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
