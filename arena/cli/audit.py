"""`arena audit`: where a log's figures come from weak attacks, luck or too few games."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from arena.cli.console import CommandError, err, out, say, say_json
from arena.league.audit.auditing import findings_of
from arena.league.audit.said import whole
from arena.league.board import Finding, Status
from arena.league.cells import Source
from arena.league.matrices import Matrix, matrices, read_sources
from arena.log import Log, open_log, questions
from arena.report.terminal import wide_enough
from arena.report.words import rules

ORDER: tuple[Status, ...] = ("found", "unchecked", "clear")
WORDS = {"found": "found", "unchecked": "not checked", "clear": "clear"}
STYLES = {"found": "yellow", "unchecked": "dim", "clear": "green"}

Audited = list[tuple[Matrix, list[Finding]]]


@dataclass(frozen=True)
class Replaying:
    """How games are played again: how many of a cell, where data sets and weights lie, the device (None: the
    kind that played), functions that may be called as networks, and the secret of a ranked run."""

    games: int
    data: Sequence[Path]
    device: str | None
    trust: Sequence[str]
    secret: Path | None = None


def audit_command(log: str, run: int | None, as_json: bool, replaying: Replaying | None) -> int:
    """Audit a log, or one of its runs; returns the exit status, which findings do not change."""
    with open_log(log, create=False) as book:
        found = audited(_sources(book, run))
        if replaying is not None:
            found = _replayed(book, found, replaying)
    show(book.name, found, as_json)
    return 0


def _replayed(book: Log, found: Audited, how: Replaying) -> Audited:
    """With what a sample of games says that is played again."""
    from arena.league.audit.replays import Replays  # with torch, which takes seconds to load
    from arena.running.replaying import Replayer
    from arena.scenario.seeds import PUBLIC, read_secret

    seeds = PUBLIC if how.secret is None else read_secret(how.secret)
    with Replayer(book, data_dirs=how.data, device=how.device, trusted=how.trust, seeds=seeds) as replayer:
        replays = Replays(replayer, how.games, _working)
        return [(matrix, [*findings, *replays.findings(matrix)]) for matrix, findings in found]


def _working(sentence: str) -> None:
    err.print(f"[dim]playing again: {escape(sentence)}[/]", highlight=False, soft_wrap=True)


def _sources(book: Log, run: int | None) -> list[Source]:
    with book.snapshot():
        sources = read_sources(book)
        if run is None:
            return sources
        if run not in (known := [one.id for one in questions.runs(book)]):
            raise CommandError(f"log {book.name} has no run {run}; its runs are {sorted(known)}")
        own = {match.id for match in questions.matches(book, run)}
    return [source for source in sources if source.match.id in own]


def audited(sources: Sequence[Source]) -> Audited:
    """The matrices in which games end, with what is said of each."""
    findings = findings_of(sources)
    ending = [m for m in matrices(sources) if any(whole(cell) for cell in m.cells.values())]
    return [(matrix, findings(matrix)) for matrix in ending]


def show(name: str, found: Audited, as_json: bool) -> None:
    """Print an audit."""
    if as_json:
        say_json([_json(matrix, findings) for matrix, findings in found])
        return
    if not found:
        say(f"log {name} holds no finished games")
    for matrix, findings in found:
        _print(matrix, findings)


def _json(matrix: Matrix, findings: Sequence[Finding]) -> dict[str, object]:
    return {
        "dataset": matrix.dataset,
        "classifier": matrix.classifier,
        "threat": matrix.threat.model_dump(mode="json"),
        "at": matrix.at,
        "findings": [vars(finding) for finding in findings],
    }


def _print(matrix: Matrix, findings: Sequence[Finding]) -> None:
    say(f"{matrix.dataset}, {matrix.classifier} · {rules(matrix.threat, {matrix.at})}")
    counts = {status: sum(f.status == status for f in findings) for status in ORDER}
    grave = sum(f.status == "found" and f.grave for f in findings)
    said = ", ".join(f"{counts[status]} {WORDS[status]}" for status in ORDER if counts[status])
    say(said + (f"; {grave} grave: no rank is made of these cells" if grave else ""))
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("indicator", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("evidence, and what to do", overflow="fold", ratio=1)
    for finding in sorted(findings, key=lambda f: (ORDER.index(f.status), not f.grave)):
        style = "red" if finding.status == "found" and finding.grave else STYLES[finding.status]
        word = "found, grave" if style == "red" else WORDS[finding.status]
        advice = f" [dim]{escape(finding.advice)}[/]" if finding.advice else ""
        table.add_row(finding.indicator, f"[{style}]{word}[/]", f"{escape(finding.evidence)}.{advice}")
    wide_enough(out).print(table)
    say("")
