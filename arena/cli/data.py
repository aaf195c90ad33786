"""`arena data`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from arena.cli.console import CommandError, err, out, say, say_json
from arena.datasets import DATASETS
from arena.datasets.download import DOWNLOADS, fetch
from arena.datasets.folders import cache, find, search_path
from arena.datasets.loading import SOURCES
from arena.inputs.places import expanded, kind_of, unwritable
from arena.interruptions import promise
from arena.messages import near

NOTHING_TO_GET = {
    "digits": "digits come with scikit-learn; there is nothing to get",
    "imagenet": "imagenet is given out by its owners alone (image-net.org, or its challenge on Kaggle)",
    "npz": 'npz is a file of your own; name it in the scenario: dataset = { name = "npz", path = "FILE" }',
}


_FOUND = {"yes": "[green]yes[/]", "own": "[green]own[/]", "no": "[yellow]no [/]"}


def list_command(data: Sequence[Path], as_json: bool) -> int:
    """List where every data set lies, or what to put where; returns the exit status."""
    places = {name: _whereabouts(name, data) for name in DATASETS}
    if as_json:
        say_json([{"name": n, "found": found, "where": where} for n, (found, where) in places.items()])
        return 0
    for name, (found, where) in places.items():
        out.print(
            f"  {_FOUND[found]} {escape(f'{name:<14}')} {escape(where)}", highlight=False, soft_wrap=True
        )
    say(f"looked in {', '.join(map(str, search_path(data)))}")
    return 0


def _whereabouts(name: str, data: Sequence[Path]) -> tuple[str, str]:
    """Whether a data set is found ("yes", "no", or "own": by its path), and where, or what to put where."""
    source = SOURCES.get(name)
    if source is None:
        return "yes", "comes with scikit-learn"
    if not source.places:
        return "own", f"by its path: {source.advice}"
    try:
        return "yes", str(find(name, source.places, data, ""))
    except FileNotFoundError:
        get = f"arena data get {name}; or " if name in DOWNLOADS else ""
        return "no", f"not found: {get}{source.advice}"


def get_command(name: str, to: Path | None) -> int:
    """Fetch a data set into `to`, or the user's cache; returns the exit status."""
    if name not in DATASETS:
        raise CommandError(f'there is no data set "{name}"; {near(name, DATASETS)}')
    if name not in DOWNLOADS:
        source = SOURCES.get(name)
        advice = f"; once you have it, in {cache()}: {source.advice}" if source and source.places else ""
        raise CommandError(NOTHING_TO_GET[name] + advice)
    folder = expanded(to or cache()).absolute()
    place = folder / DOWNLOADS[name].folder
    if kind_of(place) != "nothing":
        say(f"{name} is in {place} already; remove it to fetch it again")
        return 0
    if (why := unwritable(place)) is not None:
        raise CommandError(f"--to: {place} {why}")
    promise(lambda: "nothing was kept")
    with _progress() as progress:
        fetch(name, folder, lambda file: _Bar(progress, file))
    say(f"{name}: {place}")
    if folder not in search_path():
        say(f"to be found there, say --data {folder} or set ARENA_DATA={folder}")
    return 0


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=err
    )


class _Bar:
    """One file's progress bar, with the methods that pooch expects."""

    def __init__(self, progress: Progress, file: str) -> None:
        self._progress, self._task = progress, progress.add_task(escape(file), total=None)

    @property
    def total(self) -> int | None:
        return None

    @total.setter
    def total(self, size: int) -> None:
        self._progress.update(self._task, total=size or None)

    def update(self, size: int) -> None:
        self._progress.advance(self._task, size)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None: ...
