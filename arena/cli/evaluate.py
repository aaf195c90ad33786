"""`arena evaluate`: the utility of classifiers and stacks of defenders on clean images."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from rich.markup import escape
from rich.status import Status

from arena.classifiers import Classifier, ClassifierError, ClassifierSpec, load_classifier
from arena.classifiers.devices import resolve_device, sized
from arena.classifiers.loading import trained_elsewhere
from arena.cli.agent_words import agent_of
from arena.cli.console import FAILED, CommandError, Remarks, err, out, say, say_json
from arena.cli.evaluate_table import Found, table_of, work
from arena.cli.scenarios import check_trusted, read_scenario
from arena.datasets import Dataset, DatasetError, DatasetSpec, load_dataset
from arena.datasets.dataset import SPLITS
from arena.evaluation.benign.plan import NONE, Traffic, read_traffic
from arena.evaluation.benign.playing import BenignTraffic
from arena.evaluation.clean_images import Evaluation
from arena.evaluation.reliability import Reliability
from arena.game.blame import DefenderError
from arena.game.stack import facts_of, prepare
from arena.inputs.texts import TextError, read_json
from arena.messages import fault, near, one_line, quoted, told
from arena.modes import own_modes
from arena.players import Defender
from arena.players.registry import build_stack, name_of
from arena.progress import Work, hearing
from arena.report.benign_tables import LEGEND as BENIGN_LEGEND
from arena.report.benign_tables import benign_table
from arena.report.reliability_charts import STILLS, draw_reliability
from arena.report.reliability_terminal import reliability_lines
from arena.report.terminal import wide_enough
from arena.report.words import percent
from arena.running.call_plan import served
from arena.scenario.matches import Match

UNDEFENDED = "none"
ORIGIN = ("network", "arch", "dataset", "recipe_name", "training", "source", "licence")
"""The keys of a card that are printed: the origin of the weights."""
Checked = TypeVar("Checked", bound=BaseModel)


@dataclass(frozen=True)
class Options:
    """What is evaluated, and how.

    Attributes:
        split: its name, or those of several with + between.
        images: how many, at most; None for all of the split.
        batch: rows per forward pass; None for the scenario's, else the most that fit.
        benign: the benign clients that are played against each stack.
        answers: how many each image gets to tell how far random draws spread the loss; None: that is not
            measured.
        picture: the file of probability and accuracy along the images; None: none.
        trusted: functions of a scenario that may be called to make its networks; one that the command line
            itself names needs no such word.
    """

    device: str = "auto"
    data: Sequence[Path] = ()
    split: str = "games"
    images: int | None = None
    batch: int | None = None
    json: bool = False
    picture: Path | None = None
    trusted: Sequence[str] = ()
    answers: int | None = None
    benign: Traffic = NONE


@dataclass(frozen=True)
class EvaluatedWorld:
    """A data set, a classifier, and stacks of defenders by the names of their rows."""

    dataset: DatasetSpec
    classifier: ClassifierSpec
    stacks: tuple[tuple[str, tuple[Defender, ...]], ...]
    seed: int = 0
    batch: int | None = None
    trusted: Sequence[str] = ()


def worlds_of_file(
    file: str, others: Sequence[object] = (), size: str | None = None
) -> tuple[list[EvaluatedWorld], list[Path]]:
    """The distinct worlds of a scenario in a size, each with its distinct stacks; and the folder where
    relative paths start. `others` are the options that a file replaces."""
    if any(others):
        raise CommandError(
            f"--dataset, --network, --weights, --precision and --defender say what {file} says; give either"
        )
    scenario = read_scenario(file, size)
    found: dict[tuple[str, int, int | None], tuple[Match, dict[str, tuple[Defender, ...]]]] = {}
    for match in scenario.matches:
        key = (match.world.model_dump_json(), match.settings.seed, match.settings.batch)
        stacks = found.setdefault(key, (match, {}))[1]
        title = match.defender_name
        while stacks.get(title, match.defenders) != match.defenders:
            title += "'"  # the same names, but other parameters
        stacks[title] = match.defenders
    worlds = [
        EvaluatedWorld(
            m.world.dataset, m.world.classifier, _in_order(stacks), m.settings.seed, m.settings.batch
        )
        for m, stacks in found.values()
    ]
    return worlds, [scenario.folder]


def world_of_words(options: Mapping[str, str | None], defenders: Sequence[str]) -> EvaluatedWorld:
    """A world from the options `dataset`, `network`, `weights` and `precision` of the command line."""
    dataset, network = _table("dataset", "name", options["dataset"] or "digits"), options["network"]
    if network is None and dataset.get("name") != "digits":
        raise CommandError(f'--network: data set "{dataset.get("name")}" needs one to be named')
    classifier = _table("network", "network", network or "digits-cnn")
    classifier |= {key: options[key] for key in ("weights", "precision") if options[key] is not None}
    stacks = {text: build_stack(agent_of("--defender", text)) for text in defenders}
    spec = _checked(ClassifierSpec, classifier, "classifier")
    return EvaluatedWorld(
        _checked(DatasetSpec, dataset, "dataset"), spec, _in_order(stacks), trusted=(spec.network,)
    )


def _table(option: str, key: str, text: str) -> dict[str, Any]:
    found = _parsed(option, text)
    if not isinstance(found, str | dict):
        raise CommandError(f"--{option}: found {quoted(text)}; it must be a name or a JSON table")
    return {key: found} if isinstance(found, str) else found


def _parsed(option: str, text: str) -> Any:
    """A name, or JSON with what a scenario could hold."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return read_json(text)
    except TextError as error:
        raise CommandError(f"--{option}: {quoted(text)} {error}") from error


def benign_of(text: str | None) -> Traffic:
    """The benign traffic that the command line names: a number, or a JSON table; None: none."""
    value = 0 if text is None else _parsed("benign", text)
    try:
        return read_traffic(int(value) if isinstance(value, str) and value.isdecimal() else value)
    except ValueError as error:
        raise CommandError(f"--{error}") from error


def _checked(model: type[Checked], table: dict[str, Any], name: str) -> Checked:
    try:
        return model.model_validate(table)
    except ValidationError as error:

        def sentence(e: Any) -> str:
            key = ".".join(map(str, e["loc"]))
            return f"{name}: {f'{key}: ' * bool(key)}{fault(e, model.model_fields)}"

        raise CommandError(*told(error.errors(), sentence)) from error


@own_modes()
def evaluate_command(worlds: Sequence[EvaluatedWorld], folders: Sequence[Path], options: Options) -> int:
    """Evaluate and print; returns the exit status."""
    names = options.split.split("+")
    for name in names:
        if name not in SPLITS:
            raise CommandError(
                f'--split: there is no split "{name}"; {near(name, SPLITS)}, or several with +'
            )
    if len(set(names)) < len(names):
        raise CommandError(f"--split: found {options.split}; each split counts once")
    _check_picture(options.picture)
    check_trusted(options.trusted, [world.classifier.network for world in worlds])
    device = resolve_device(options.device)
    with hearing(Remarks()):
        failed = _evaluate_all(worlds, folders, options, device)
    return FAILED if failed else 0


def _evaluate_all(
    worlds: Sequence[EvaluatedWorld], folders: Sequence[Path], options: Options, device: torch.device
) -> list[str]:
    """Evaluate and print all stacks but those that fail, each told in a line; the titles of these. Of several
    worlds those that cannot be loaded fail likewise; one alone is an error."""
    found: list[dict[str, Any]] = []
    drawn: list[tuple[str, Reliability]] = []
    failed: list[str] = []
    for world in worlds:
        try:
            dataset, classifier = _loaded(world, [*folders, *options.data], options, device)
        except (DatasetError, ClassifierError, FileNotFoundError, PermissionError) as error:
            if len(worlds) == 1:
                raise
            title = f"{world.classifier.network} on {world.dataset.name}"
            _fail(failed, title, error)
            continue
        rows = list(_evaluated(world, dataset, classifier, options, failed))
        of = f", {classifier.name} on {dataset.name}" * (len(worlds) > 1)
        drawn += [
            (f"{row.title}{of}", row.utility.reliability)
            for row in rows
            if row.utility.reliability is not None
        ]
        if options.json:
            found += [_as_json(dataset, classifier, options, row) for row in rows]
        else:
            _print(dataset, classifier, options, rows)
    if options.json:
        say_json(found)
    if options.picture is not None and drawn:
        _draw(drawn, options)
    return failed


def _loaded(
    world: EvaluatedWorld, dirs: Sequence[Path], options: Options, device: torch.device
) -> tuple[Dataset, Classifier]:
    dataset = load_dataset(world.dataset, dirs)
    trusted = [*options.trusted, *world.trusted]
    loaded = load_classifier(world.classifier, dataset, device, data_dirs=dirs, trusted=trusted)
    return dataset, sized(loaded, options.batch or world.batch)


def _fail(failed: list[str], title: str, error: Exception) -> None:
    failed.append(title)
    err.print(f"[red]failed:[/] {escape(f'{title}: {error}')}", highlight=False, soft_wrap=True)


def _check_picture(to: Path | None) -> None:
    if to is None:
        return
    if to.suffix.removeprefix(".") not in STILLS:
        allowed = ", ".join(f".{kind}" for kind in STILLS)
        raise CommandError(f'--picture: found "{to}"; the name must end with one of {allowed}')
    if not to.absolute().parent.is_dir():
        raise CommandError(f"--picture: there is no folder {to.parent}; create it first")


def _draw(drawn: Sequence[tuple[str, Reliability]], options: Options) -> None:
    assert options.picture is not None
    try:
        draw_reliability(drawn, options.picture)
    except OSError as error:
        raise CommandError(f"{options.picture} cannot be written: {error.strerror or error}") from error
    if not options.json:
        say(f"picture: {options.picture}")


def _evaluated(
    world: EvaluatedWorld, dataset: Dataset, classifier: Classifier, options: Options, failed: list[str]
) -> Iterator[Found]:
    """What is found of each stack; the titles of stacks that fail join `failed`."""
    first, *others = (dataset.splits[name] for name in options.split.split("+"))
    split = sum(others, first)
    evaluation = Evaluation(classifier, split, seed=world.seed, images=options.images)
    benign = BenignTraffic(classifier, split, options.benign.within(split), seed=world.seed)
    for title, defenders in world.stacks:
        try:
            with (
                err.status(f"{escape(title)} on {len(evaluation):,} images") as status,
                hearing(_Line(status)),
            ):
                stack = prepare(classifier, defenders, dataset)
                utility = evaluation.of(stack, cost=served(classifier) is None)
                if options.benign.sessions:
                    utility = replace(utility, benign=tuple(benign.of(stack)))
                spread = None if options.answers is None else evaluation.loss_spread(stack, options.answers)
                facts = {name_of(d): found for d in stack.defenders if (found := facts_of(d))}
        except DefenderError as error:
            _fail(failed, title, error)
        else:
            yield Found(title, utility, facts, spread)


class _Line(Remarks):
    """Tells on one line of the terminal what is prepared and measured."""

    def __init__(self, status: Status) -> None:
        self.status = status

    def working(self, work: Work | None) -> None:
        if work is not None:
            self.status.update(escape(str(work)))


def _print(
    dataset: Dataset,
    classifier: Classifier,
    options: Options,
    rows: Sequence[Found],
) -> None:
    if not rows:
        return
    console, first = wide_enough(out), rows[0].utility
    of = f"{first.images:,} images of {dataset.name} ({options.split})"
    precision = f", {classifier.precision}" * (classifier.precision != "float32")
    say(f"{classifier.name} on {of}, {classifier.device}{precision}")
    for remark in _remarks(classifier, dataset, options.split):
        say(f"remark: {remark}")
    endless = console.options.update(max_width=10_000)
    tables = [table_of(rows, whole) for whole in (True, False)]
    fits = (table for table in tables if console.measure(table, options=endless).maximum <= console.width)
    console.print(next(fits, tables[-1]))
    if any(row.utility.benign for row in rows):
        table, same = benign_table([(row.title, row.utility.benign) for row in rows])
        console.print(table)
        for text in (*[same] * bool(same), *BENIGN_LEGEND):
            say(text)
    for row in rows:
        for name, found in row.facts.items():
            values = ", ".join(
                f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items()
            )
            say(f"{row.title if row.title == name else f'{row.title}: {name}'}, as fitted: {values}")
    for line in reliability_lines([(row.title, row.utility) for row in rows], console.width):
        say(line)
    say("shares and ECE in percent, NLL in nats; cost: seconds relative to the undefended classifier")
    say("(about 1: its 95 % interval covers 1; a range: the interval alone, since it is wide)")
    if not all(math.isnan(row.utility.multiply_adds) for row in rows):
        say(f"million multiply-adds a query, element-wise work not counted: {work(rows)}")
    if any(row.utility.input_l2 > 0 for row in rows):
        say("input l2: mean l2 distance from an image to what the classifier sees in its place")
    if options.answers is not None:
        say(f"spread: standard deviation of p_y - max p_k over {options.answers} answers, mean over images")


def _as_json(
    dataset: Dataset,
    classifier: Classifier,
    options: Options,
    found: Found,
) -> dict[str, Any]:
    return {
        "dataset": dataset.name,
        "dataset_sha": dataset.sha,
        "split": options.split,
        "classifier": classifier.name,
        "classifier_sha": classifier.sha,
        "precision": classifier.precision,
        "card": dict(classifier.card),
        "remarks": list(classifier.remarks),
        "device": str(classifier.device),
        "defender": found.title,
        **asdict(found.utility),
        "loss_spread": found.spread,
        "answers": options.answers,
        "facts": found.facts,
    }


def _remarks(classifier: Classifier, dataset: Dataset, split: str) -> list[str]:
    """What a reader must know about the weights: their origin, and the accuracy that their card claims on
    these images."""
    card = dict(classifier.card)
    origin = [f"{key} {card[key]}" for key in ORIGIN if key in card]
    claimed = "" if trained_elsewhere(card, dataset) else _claimed(card.get("accuracy"), split)
    remarks = [f"the weights' card says {one_line(what)}" for what in (", ".join(origin), claimed) if what]
    return [*classifier.remarks, *remarks]


def _claimed(accuracy: str | None, split: str) -> str:
    """A card's accuracy in words: a number, or JSON by split, as `arena train` writes it."""
    if accuracy is None:
        return ""
    try:
        of = {name: json.loads(accuracy)[name] for name in split.split("+")}
        rates = (f"{percent(a['accuracy'], 2)} % on {a['images']:,} images of {n}" for n, a in of.items())
        return f"accuracy {', '.join(rates)}"
    except (ValueError, TypeError, KeyError, IndexError):
        return f"accuracy {accuracy}"


def _in_order(stacks: dict[str, tuple[Defender, ...]]) -> tuple[tuple[str, tuple[Defender, ...]], ...]:
    """The stacks with the undefended one first, even if it was not named."""
    undefended = {UNDEFENDED: build_stack(UNDEFENDED)}
    return tuple((undefended | stacks).items())
