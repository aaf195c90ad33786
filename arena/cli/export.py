"""`arena export`: the log's tables and final images as files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from arena.cli.console import CommandError, say
from arena.cli.image_files import write_npz, write_pngs
from arena.cli.table_files import FORMATS, check_installed
from arena.interruptions import promise
from arena.log import open_log
from arena.log.exports import TABLES, Snapshot, columns_of, snapshot
from arena.messages import near

IMAGES = ("png", "npz")


@dataclass(frozen=True)
class Wanted:
    """What is exported.

    Attributes:
        to: the folder; None: beside the log, or here.
        run: None for the whole log.
        form: of the tables.
        tables: None for all of them.
        images: `png`, `npz`, both or neither.
        force: whether files may be replaced.
    """

    to: Path | None = None
    run: int | None = None
    form: str = "csv"
    tables: Sequence[str] = ()
    images: Sequence[str] = ()
    force: bool = False


def export_command(log: str, wanted: Wanted) -> int:
    """Write the log's tables and final images into a folder; returns the exit status."""
    _check("--format", [wanted.form], FORMATS)
    _check("--table", wanted.tables, TABLES)
    _check("--images", wanted.images, IMAGES)
    check_installed(wanted.form)
    with open_log(log, create=False) as book, snapshot(book, wanted.run) as seen:
        path = book.database.address.path
        folder = wanted.to or (Path("export") if path is None else path.with_name(f"{path.stem}-export"))
        try:
            _make_empty(folder, wanted.force)
            promise(lambda: f"the files in {folder} are whole; with --force, the same command writes all")
            for name in TABLES:
                if not wanted.tables or name in wanted.tables:
                    _write_table(folder, seen, name, wanted.form)
            for kind in dict.fromkeys(wanted.images):
                _write_images(folder, seen, kind)
        except OSError as error:
            raise CommandError(f"{folder} cannot be written: {error.strerror or error}") from error
    say(f"exported to {folder}")
    return 0


def _check(option: str, given: Sequence[str], allowed: Collection[str]) -> None:
    for word in given:
        if word not in allowed:
            raise CommandError(f'{option}: found "{word}"; {near(word, allowed)}')


def _make_empty(folder: Path, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise CommandError(f"--out: {folder} is a file; it must be a folder")
    folder.mkdir(parents=True, exist_ok=True)
    if not force and any(folder.iterdir()):
        raise CommandError(
            f"{folder} is not empty; --force replaces files of the same names there, or name another --out"
        )


def _write_table(folder: Path, seen: Snapshot, name: str, form: str) -> None:
    """Under another name until it is whole."""
    path, part = folder / f"{name}.{form}", folder / f"{name}.{form}.part"
    count = 0
    try:
        file = FORMATS[form](part, columns_of(TABLES[name]))
        try:
            for rows in seen.rows(TABLES[name]):
                file.write(rows)
                count += len(rows)
        finally:
            file.close()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    say(f"  {path.name:<20} {count:>12,} rows")


def _write_images(folder: Path, seen: Snapshot, kind: str) -> None:
    """The final images of the games that were played, match by match."""
    images = folder / "images"
    images.mkdir(exist_ok=True)
    for match_id, shape in seen.matches():
        finals = seen.finals(match_id, shape)
        if kind == "png":
            count = write_pngs(images / f"match-{match_id}", finals, shape)
            say(f"  images/match-{match_id}/ {count:>12,} PNG files")
            continue
        path, part = images / f"match-{match_id}.npz", images / f"match-{match_id}.npz.part"
        try:
            write_npz(part, finals, count := seen.played(match_id), shape)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        say(f"  {f'images/{path.name}':<20} {count:>12,} images")
