"""`arena train`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeftColumn

from arena.classifiers.devices import resolve_device
from arena.cli.console import CommandError, err, say
from arena.datasets import DatasetSpec, load_dataset
from arena.inputs.places import unwritable
from arena.inputs.texts import TextError, read_json
from arena.interruptions import caught, noting, promise, raise_pending
from arena.messages import quoted
from arena.modes import own_modes
from arena.training import (
    RECIPES,
    Checkpoint,
    Stopped,
    Trained,
    TrainingJob,
    TrainingListener,
    card,
    find_recipe,
    measure,
    train,
    write_weights,
)
from arena.training.card import is_of
from arena.training.files import part_of
from arena.training.session import Figures

WEIGHTS = ".safetensors"


def assignments(option: str, given: Sequence[str]) -> dict[str, Any]:
    """{"rate": 0.1} from ["rate=0.1"]: values are read as JSON, or else as text."""
    found = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not (key and equals):
            raise CommandError(f"{option}: found {quoted(item)}; it must be KEY=VALUE")
        try:
            found[key] = read_json(value)
        except TextError:
            found[key] = value
    return found


def changes(given: Sequence[str], epochs: int | None) -> dict[str, Any]:
    """The changes to a recipe: by `--set`, and by `--epochs` if it is given."""
    found = assignments("--set", given)
    if epochs is None:
        return found
    if "epochs" in found:
        raise CommandError(f"--epochs {epochs} and --set epochs={found['epochs']} are both given; give one")
    return found | {"epochs": epochs}


@own_modes()
def make_job(
    network: str,
    dataset: DatasetSpec,
    recipe: str | None,
    changes: Mapping[str, Any],
    params: Mapping[str, Any],
    *,
    seed: int,
    device: str,
    data: Sequence[Path],
    threads: int | None = None,
) -> tuple[str, TrainingJob]:
    """The job that the command line describes, and the name of its recipe."""
    if threads is not None:
        torch.set_num_threads(threads)
    where = resolve_device(device)
    name, named = find_recipe(recipe, network)
    rules = named.recipe.changed(changes) if changes else named.recipe
    whole = named.params_for(network) | dict(params)
    job = TrainingJob(network, load_dataset(dataset, data), rules, seed, whole, where, (network,))
    return (f"{name}, changed" if rules != named.recipe else name), job


@own_modes()
def train_command(job: TrainingJob, recipe: str, out: Path | None, *, every: float, fresh: bool) -> int:
    """Train, measure and write the weights; returns the exit status."""
    out = out or _default_out(job)
    _check_place(out)
    checkpoint = Checkpoint(out.with_name(f"{out.name}.checkpoint"), job.identity, every)
    _check_place(part_of(out))
    _check_place(checkpoint.path)
    if fresh:
        checkpoint.remove()
    elif out.exists():
        if not is_of(out, job):
            raise CommandError(
                f"{out} holds the weights of another training; --fresh replaces them, or name another --out"
            )
        checkpoint.remove()
        say(f"{out} holds this training already; --fresh trains again")
        return 0
    if out.suffix.lower() != WEIGHTS:
        raise CommandError(f"--out: the name of a weights file must end in {WEIGHTS}; found {out}")
    job.build()  # once before anything is written: a network that cannot be made leaves nothing behind
    _check_writable(out)
    _tell(job, recipe)
    promise(lambda: _safe(checkpoint))
    try:
        with _Bar(job) as bar:
            trained = _trained(job, checkpoint, bar)
            accuracy = measure(trained, job.data)
        write_weights(out, trained.network, card(job, recipe, trained, accuracy))
    except OSError as error:
        why = f"{out} cannot be written: {error.strerror or error}; {_safe(checkpoint)}"
        err.print(f"[red]error:[/] {escape(why)}", highlight=False, soft_wrap=True)
        return 1
    promise(lambda: f"the weights are in {out}")
    checkpoint.remove()
    for name, found in accuracy.items():
        interval = f"({100 * found['low']:.2f} to {100 * found['high']:.2f})"
        say(f"{name:<12}{100 * found['accuracy']:6.2f} % {interval} of {found['images']:,} images")
    say(f"weights: {out}")
    return 0


def _trained(job: TrainingJob, checkpoint: Checkpoint, bar: _Bar) -> Trained:
    """A signal stops the training between two steps, so that all of them are kept."""
    with noting(), suppress(Stopped):
        trained = train(job, checkpoint, bar, stop=lambda: caught() is not None)
    raise_pending()
    return trained


def _tell(job: TrainingJob, recipe: str) -> None:
    rules = json.dumps(job.recipe.model_dump(mode="json", exclude_defaults=True))
    source = RECIPES[recipe.partition(",")[0]].source
    text = f"{job.network} on {job.data.name}, {job.device}; recipe {recipe}: {rules} (from {source})"
    err.print(text, highlight=False, soft_wrap=True, markup=False)


def _default_out(job: TrainingJob) -> Path:
    name = re.sub(r"[^A-Za-z0-9]+", "_", f"{job.network} {job.data.name}").strip("_")
    return Path("weights") / f"{name}{WEIGHTS}"


def _check_writable(out: Path) -> None:
    """Raises before the training rather than after it."""
    beside = part_of(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"--out: the folder {out.parent} cannot be made: {error.strerror}") from error
    try:
        with beside.open("ab"):
            pass
        beside.unlink()
    except OSError as error:
        raise CommandError(f"--out: {out} cannot be written: {error.strerror or error}") from error


def _check_place(path: Path) -> None:
    if (why := unwritable(path)) is not None:
        raise CommandError(f"--out: {path} {why}")


def _safe(checkpoint: Checkpoint) -> str:
    if checkpoint.path.exists():
        return f"the same command goes on from {checkpoint.path}"
    return "no checkpoint was written, and the same command starts over"


class _Bar(TrainingListener):
    """Progress on the terminal: a line for each epoch, and steps, rate and time left below."""

    def __init__(self, job: TrainingJob) -> None:
        self.job = job
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("steps, rate {task.fields[rate]:.2g}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeLeftColumn(elapsed_when_finished=False),
            console=err,
            refresh_per_second=2,
        )
        self.task: TaskID = self.progress.add_task("training", total=None, start=False, rate=job.recipe.rate)
        self.epochs = self.rate = 0.0

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def begun(self, done: int, steps: int, epoch_steps: int) -> None:
        self.epochs = -(-steps // epoch_steps)
        self.progress.start()
        if done:
            self._line(f"going on after step {done:,} of {steps:,}")
        self.progress.reset(self.task, total=steps, completed=done, rate=self.job.recipe.rate)

    def stepped(self, rate: float) -> None:
        self.rate = rate
        self.progress.update(self.task, advance=1, rate=rate)

    def epoch(self, number: int, train: Figures, calibration: Figures) -> None:
        self._line(
            f"epoch {number:>3}/{self.epochs}  loss {train.loss:.4f}  accuracy {100 * train.accuracy:.2f} %  "
            f"calibration {calibration.loss:.4f}, {100 * calibration.accuracy:.2f} %  rate {self.rate:.2g}"
        )

    def not_kept(self, error: OSError) -> None:
        self._line(f"no checkpoint could be written: {error.strerror or error}; the training goes on")

    def _line(self, text: str) -> None:
        self.progress.console.print(text, highlight=False, soft_wrap=True, markup=False)
