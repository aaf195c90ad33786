"""`arena board`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from arena.cli.board_files import BoardFiles
from arena.cli.console import CommandError, out, say
from arena.league.audit.auditing import findings_of
from arena.league.board import Board, Submission
from arena.league.boards import board_of
from arena.league.cells import Source
from arena.league.filters import check_count, chosen, parse_filters
from arena.league.looks import further
from arena.league.matrices import read_sources
from arena.log import Log, open_log, questions
from arena.log.database import parse_address
from arena.log.strangers import open_strangers
from arena.messages import near
from arena.report.board_examples import examples
from arena.report.board_page import render_board
from arena.report.board_terminal import print_board

if TYPE_CHECKING:
    from arena.running.submissions import SubmissionReport
    from arena.scenario.seeds import Seeds


@dataclass(frozen=True)
class Wanted:
    """What is asked, and which files are written.

    Attributes:
        to: the page; None: beside the first log, or here.
        csv, json, parquet: files that are written too.
        at: one query count; None: all.
        threat: KEY=VALUE of the matches wanted.
        run: the matches of one run alone.
        cap_accuracy, cap_delay: of the mixture of defenders, in percentage points and as a factor.
        data: where data sets and weights lie.
        secret: the file of the secret with which the logs' ranked runs were played.
    """

    to: Path | None = None
    csv: Path | None = None
    json: Path | None = None
    parquet: Path | None = None
    at: int | None = None
    threat: Sequence[str] = ()
    run: int | None = None
    cap_accuracy: float | None = None
    cap_delay: float | None = None
    title: str = ""
    data: Sequence[Path] = ()
    secret: Path | None = None

    @property
    def seeds(self) -> Seeds:
        """Raises ScenarioError if the secret cannot be read."""
        from arena.scenario.seeds import PUBLIC, read_secret

        return PUBLIC if self.secret is None else read_secret(self.secret)


@dataclass(frozen=True)
class Submitted:
    """Folders that are checked, and how: `check_submission`'s arguments."""

    folders: Sequence[Path] = ()
    sample: int = 5
    seed: int | None = None
    device: str | None = None
    trusted: Sequence[str] = ()


@dataclass(frozen=True)
class Book:
    """A log, and the name by which a board calls it."""

    name: str
    log: Log


def board_command(logs: Sequence[str], wanted: Wanted, submitted: Submitted) -> int:
    """Print the board of logs and submissions, and write its files; returns the exit status, which is that of
    the submissions."""
    if not logs and not submitted.folders:
        raise CommandError("a board needs a log: name one or several, or a submission by --submit FOLDER")
    filters = parse_filters(wanted.threat)
    page = wanted.to or _beside(logs, submitted.folders)
    files = BoardFiles(page, wanted.csv, wanted.json, wanted.parquet)
    with ExitStack() as stack:
        books = [_book(stack.enter_context(open_log(log, create=False))) for log in logs]
        _check_distinct(books)
        status, submissions, strangers = _submissions(stack, submitted, wanted)
        books += strangers
        if not books:
            say("no board is made: no submission came through")
            return status
        for book in books:
            stack.enter_context(book.log.snapshot())
        sources = _sources(books, wanted, filters)
        secret = _published(sources, wanted)
        board = replace(_judged(sources, wanted), submissions=submissions, secret=secret)
        shown = examples(board, {book.name: book.log for book in books}, wanted.data)
        files.write(board, render_board(board, shown))
    print_board(out, board)
    say("")
    files.tell()
    return status


def spend_command(logs: Sequence[str], wanted: Wanted, games: int, device: str | None) -> None:
    """Play up to `games` further games of a log where they decide a rank."""
    from arena.cli.spend import spend

    if len(logs) != 1:
        raise CommandError(f"--spend: further games go into one log; found {len(logs)}")
    filters = parse_filters(wanted.threat)

    def choose(found: list[Source]) -> list[Source]:
        return chosen(found, filters)

    spend(logs[0], games, choose, seeds=wanted.seeds, data=wanted.data, device=device or "auto")


def _published(sources: Sequence[Source], wanted: Wanted) -> str:
    """The secret, where it is the one with which all ranked runs were played."""
    if wanted.secret is None:
        return ""
    seeds = wanted.seeds
    committed = {source.secret: source.log for source in sources if source.secret}
    others = [log for commitment, log in committed.items() if commitment != seeds.commitment]
    if others or not committed:
        why = (
            f"log {others[0]} was played with another one" if others else "no match here was played with one"
        )
        raise CommandError(f"--secret-seed {wanted.secret}: {why}; a board publishes the secret of its logs")
    return (seeds.secret or b"").decode("ascii")


def _submissions(
    stack: ExitStack, submitted: Submitted, wanted: Wanted
) -> tuple[int, list[Submission], list[Book]]:
    """What came of each, worst exit status first; and the logs of those that did not fail."""
    if not submitted.folders:
        return 0, [], []
    from arena.cli.submit import submit_command
    from arena.running.submission_files import find_files

    statuses, told, books = [], [], []
    for folder in submitted.folders:
        status, report = submit_command(
            folder,
            sample=submitted.sample,
            seed=submitted.seed,
            data=wanted.data,
            device=submitted.device,
            trusted=submitted.trusted,
            secret=wanted.secret,
        )
        statuses.append(status)
        told.append(_told(report))
        if report.status != "failed":
            books.append(Book(told[-1].log, stack.enter_context(open_strangers(find_files(folder).log))))
    return max(statuses), told, books


def _told(report: SubmissionReport) -> Submission:
    card = report.card
    return Submission(
        log=f"{report.folder}/{report.log}",
        agent=card.agent if card else "",
        paper=card.paper if card else "",
        code=card.code if card else "",
        url=(card.url or "") if card else "",
        status=report.status,
        summary=report.summary,
        missed=report.chance_missed,
        seed=report.seed,
        faults=report.faults,
        unchecked=report.unchecked,
        shards=[(one.match, one.number, one.repeat, one.status, one.said) for one in report.outcomes],
    )


def _book(log: Log) -> Book:
    return Book(log.name, log)


def _sources(books: Sequence[Book], wanted: Wanted, filters: dict[str, str]) -> list[Source]:
    if wanted.run is not None and len(books) > 1:
        raise CommandError("--run: it is a run of one log; name that log alone")
    found = [replace(source, log=book.name) for book in books for source in read_sources(book.log)]
    if not found:
        names = " and ".join(book.name for book in books)
        raise CommandError(f"no match in {names} has a finished shard; play it first, or go on with its run")
    if wanted.run is not None:
        found = _of_run(books[0], found, wanted.run)
    found = chosen(found, filters)
    if wanted.at is not None:
        check_count(found, wanted.at)
    return found


def _of_run(book: Book, sources: Sequence[Source], run: int) -> list[Source]:
    """The matches that a run uses, whichever played them first."""
    known = [str(one.id) for one in questions.runs(book.log)]
    if str(run) not in known:
        raise CommandError(f"--run: log {book.name} has no run {run}; {near(str(run), known)}")
    own = {match.id for match in questions.matches(book.log, run)}
    if not (found := [source for source in sources if source.match.id in own]):
        raise CommandError(f"--run: no match of run {run} of log {book.name} has a finished shard")
    return found


def _judged(sources: Sequence[Source], wanted: Wanted) -> Board:
    first = [source for source in sources if further(source) is None]
    scenarios = dict.fromkeys(source.run.info.title or source.run.info.scenario for source in first)
    return board_of(
        sources,
        title=wanted.title or f"Board: {', '.join(scenarios)}",
        counts=None if wanted.at is None else [wanted.at],
        cap_accuracy=wanted.cap_accuracy,
        cap_delay=wanted.cap_delay,
        findings=findings_of(sources),
    )


def _check_distinct(books: Sequence[Book]) -> None:
    seen = set()
    for book in books:
        path = book.log.database.address.path
        name = book.name if path is None else str(path.resolve())
        if name in seen:
            raise CommandError(f"log {book.name} is given twice; each log counts once")
        seen.add(name)


def _beside(logs: Sequence[str], folders: Sequence[Path]) -> Path:
    """Where the page lies unless it is said: beside the first log, else here."""
    if not logs:
        return Path(f"{folders[0].absolute().name}-board.html")
    path = parse_address(logs[0]).path
    return Path("board.html") if path is None else path.with_name(f"{path.stem}-board.html")
