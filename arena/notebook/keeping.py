"""The matches of a call in a log like the runner's, while they are played or afterwards (docs/log.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from arena.log import Log, LogError, open_log
from arena.log.database import Database, parse_address
from arena.notebook.image_sets import write_image_set
from arena.records.match_record import MatchRecord
from arena.records.pieces import LogLevel, Piece, Recorder
from arena.records.runs import MatchInfo, RunInfo
from arena.report.html import write_report
from arena.rules.outcome import Ints
from arena.scenario.identity import fingerprint

NOT_KEPT = "(not kept)"
"""What a report says of a log that was written for it alone."""


class RunBook:
    """A run in a log, to which matches are added as their first shards are written."""

    def __init__(self, log: Log, run: RunInfo, level: LogLevel) -> None:
        self.log, self.run, self.level = log, run, level
        self.run_id = log.begin_run(run)
        self._matches: dict[int, int] = {}

    @contextmanager
    def shard(self, info: MatchInfo, number: int, keys: Ints) -> Iterator[Recorder]:
        """A recorder for a shard: finished, all at once, when the `with` statement ends well."""
        own = replace(info, fingerprint=fingerprint([self.run.fingerprint, info.number]))
        if info.number not in self._matches:
            self._matches[info.number] = self.log.begin_match(self.run_id, own, fresh=True)
        shard = fingerprint([own.fingerprint, number, 0])
        match_id = self._matches[info.number]
        with self.log.shard(match_id, number, 0, shard, keys, self.level) as recorder:
            yield recorder

    def end(self) -> None:
        """Record that the run has ended."""
        self.log.end_run(self.run_id)


@contextmanager
def kept(where: str | Path, run: RunInfo, keep_rows: bool) -> Iterator[RunBook]:
    """A run in the log at a path or URL, which ends with the `with` statement.

    Raises:
        LogError: if the log cannot be made, reached or written.
    """
    if "://" not in str(where):
        folder = Path(where).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LogError(f"the folder {folder} for the log cannot be made: {error.strerror}") from error
    with open_log(where) as log:
        book = RunBook(log, run, "queries" if keep_rows else run.level)
        yield book
        book.end()


def write_page(records: Sequence[MatchRecord], to: str | Path) -> Path:
    """Write the page of `arena report` on these matches to a file; its path.

    Raises:
        ValueError: if the file cannot be written.
    """
    path = Path(to)
    first = records[0]
    if path.is_dir():
        raise ValueError(f"the report cannot be written to {path}: it is a folder; give a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"the report cannot be written to {path}: {error.strerror}") from error
    with TemporaryDirectory() as folder:
        images = write_image_set(Path(folder) / "images.npz", first.originals, first.games.label)
        database = Database(parse_address(Path(folder) / "log.db"))
        database.name = NOT_KEPT
        database.prepare(create=True)
        with Log(database) as log:
            _write(log, records, images)
            write_report(log, path)
    return path


def _write(log: Log, records: Sequence[MatchRecord], images: dict[str, Any]) -> None:
    """Write matches as one run; `images` says where their clean images lie."""
    parts = [part for record in records for part in (*record.shorter, record)]
    run = records[0].run
    described = [
        dict(
            part.run.resolved["matches"][part.match.number], shard=len(part.games), world={"dataset": images}
        )
        for part in parts
    ]
    level: LogLevel = "queries" if any(part.rows for part in parts) else "games"
    whole = replace(run, level=level, resolved={"fresh": True, "matches": described})
    book = RunBook(log, whole, level)
    for number, part in enumerate(parts):
        marks = [part.marks[at] for at in (0, *part.match.at)]
        with book.shard(replace(part.match, number=number), 0, part.games.key) as recorder:
            recorder.record(Piece(queries=part.rows, marks=marks, notes=part.notes))
            recorder.record(Piece(games=part.games, purposes=part.purposes))
    book.end()
