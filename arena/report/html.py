"""A run's report: one HTML file that needs no other file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena.evaluation.clean_utility import Utility
from arena.log import Log
from arena.log.answers import LoggedRun
from arena.report import margins, words
from arena.report.benign_section import LOST, BenignSection, benign_section
from arena.report.columns import NOTHING
from arena.report.defenses import Defense, defense
from arena.report.detection import ESTIMATION
from arena.report.findings import findings, headline_of, notices
from arena.report.groups import Group, Side, grouped
from arena.report.page_charts import (
    Chart,
    accuracy_charts,
    distance_charts,
    lines_in_words,
    margin_charts,
    radius_charts,
    reliability_charts,
)
from arena.report.pictures import Originals, Picture, choose, pictures
from arena.report.sheets import (
    Cell,
    Sheet,
    asked_sheet,
    clean_sheet,
    distance_cell,
    ended_sheet,
    left_sheet,
    matrix_cell,
    rate_cell,
    won_sheet,
)
from arena.report.strokes import DASHES
from arena.report.summary import VERDICTS, Row, progress, read_rows, read_run
from arena.report.templates import environment, write_page
from arena.rules.outcome import REASONS


@dataclass(frozen=True)
class Section:
    """What the page shows of a group.

    Attributes:
        notes: whose rule and headline are kept; found: what was found, in sentences.
        matrix: what is left at the budget, a row an attacker; worth: of each defender, what it costs.
        left, won, asked, ended: tables with a row a match; asked: None in another norm than l2.
        clean: one with a row a defender, None without any; reliable: charts of probability and accuracy
            along clean images.
        benign: what benign clients lose; None where there is nothing to say of it.
        near: charts of distance and of success within radii, against queries.
        along: what the lines are, and charts of success against the radius.
        watched: charts of the defended and the undefended margin along games.
        flagging: the places of defenders that flagged something.
        drawn: what the lines of `charts` are.
        defenses: a row a defender whose log tells.
        games: pictures by match; missing: why some have no originals.
    """

    group: Group
    heading: str
    rules: str
    notes: list[str]
    found: list[str]
    matrix: list[tuple[Side, list[Cell]]]
    worth: list[tuple[str, list[str]]]
    left: Sheet
    won: Sheet
    asked: Sheet | None
    ended: Sheet
    clean: tuple[list[Side], Sheet] | None
    reliable: list[Chart]
    benign: BenignSection | None
    charts: list[Chart]
    near: list[Chart]
    along: tuple[list[str], list[Chart]]
    watched: list[Chart]
    flagging: list[int]
    drawn: str
    defenses: list[Defense]
    games: list[tuple[Side, Side, Row, list[Picture]]]
    missing: list[str]


def write_report(log: Log, to: Path, run_id: int | None = None, data_dirs: Sequence[Path] = ()) -> None:
    """Write a run's report to the file `to`.

    Args:
        run_id: the last run by default.
        data_dirs: where data sets lie, for the original images.

    Raises:
        LogError: if the log has no such run.
        ValueError: if the file cannot be written.
    """
    write_page(render(log, run_id, data_dirs), to, "report")


def render(log: Log, run_id: int | None = None, data_dirs: Sequence[Path] = ()) -> str:
    """A run's report, as it is at one moment, as the text of an HTML file. Arguments and errors as in
    `write_report`."""
    with log.snapshot():
        return _render(log, run_id, data_dirs)


def _render(log: Log, run_id: int | None, data_dirs: Sequence[Path]) -> str:
    run = read_run(log, run_id)
    rows = read_rows(log, run.id)
    chosen, originals = choose(rows), Originals(run, data_dirs)
    groups, watched = grouped(rows), margins.courses(log, rows)
    sections = [
        _section(log, group, place, groups, chosen, originals, watched)
        for place, group in enumerate(groups, 1)
    ]
    return (
        environment({"rate": rate_cell, "distance": distance_cell})
        .get_template("report.html")
        .render(
            run=run,
            log=log.name,
            facts=_facts(run, rows),
            unfinished=words.unfinished(run, progress(run, rows)),
            alone=len(sections) == 1,
            warnings=[text for row in rows for text in notices(row)],
            sections=sections,
            verdicts=VERDICTS,
            glossary={
                **words.VERDICTS,
                "again": words.AGAIN,
                "ended early and lost its vote": words.LOST_EARLY,
            },
            dashes=DASHES,
            estimation=ESTIMATION,
            rule_of_courses=margins.RULE,
        )
    )


def _section(
    log: Log,
    group: Group,
    place: int,
    groups: Sequence[Group],
    chosen: dict[int, int],
    originals: Originals,
    watched: dict[int, list[margins.Course]],
) -> Section:
    shown = [pair for pair in group.pairs if pair[2].match.id in chosen]
    sources = {row.match.id: originals.of(row.match) for *_, row in shown}
    games = [
        (attacker, defender, row, pictures(log, row.match, chosen[row.match.id], sources[row.match.id]))
        for attacker, defender, row in shown
    ]
    ended = {reason for row in group.rows for reason in row.reasons}
    heading = f"{group.title}: {group.world}" if group.title else group.world
    return Section(
        group=group,
        heading=heading if len(groups) > 1 or group.title else f"Results on {heading}",
        rules=words.rules(group.threat, group.budgets),
        notes=[words.FIRST] * (group.threat.objective == "first") + headline_of(group),
        found=findings(group),
        matrix=_matrix(group),
        worth=_worth(group),
        left=left_sheet(group),
        won=won_sheet(group),
        asked=asked_sheet(group),
        ended=ended_sheet(group, [reason for reason in REASONS if reason in ended]),
        clean=_clean(group),
        reliable=reliability_charts(group, place),
        benign=_benign(group),
        charts=accuracy_charts(group, place),
        near=distance_charts(group, place),
        along=radius_charts(group, place),
        watched=margin_charts(group, place, watched),
        flagging=[d for d in range(len(group.defenders)) if group.flags(d)],
        drawn=lines_in_words(group),
        defenses=_defenses(group),
        games=games,
        missing=list(dict.fromkeys(source for source in sources.values() if isinstance(source, str))),
    )


def _matrix(group: Group) -> list[tuple[Side, list[Cell]]]:
    return [
        (
            attacker,
            [
                matrix_cell(group, group.cell(a, d), d, f"{attacker.label} against {defender.label}")
                for d, defender in enumerate(group.defenders)
            ],
        )
        for a, attacker in enumerate(group.attackers)
    ]


def _worth(group: Group) -> list[tuple[str, list[str]]]:
    """What stands below the matrix: clean accuracy and cost of each defender."""
    utilities = [group.utility(d) for d in range(len(group.defenders))]
    lines = [
        ("clean accuracy", [NOTHING if u is None else words.percent(u.accuracy) for u in utilities]),
        ("cost at a batch", [NOTHING if u is None else _cost(u) for u in utilities]),
    ]
    return [line for line in lines if set(line[1]) != {NOTHING}]


def _cost(utility: Utility) -> str:
    return words.cost(utility.cost_batch, utility.cost_batch_low, utility.cost_batch_high)


def _clean(group: Group) -> tuple[list[Side], Sheet] | None:
    known = [(side, u) for d, side in enumerate(group.defenders) if (u := group.utility(d)) is not None]
    return ([side for side, _ in known], clean_sheet([u for _, u in known])) if known else None


def _defenses(group: Group) -> list[Defense]:
    found = (defense(side.label, group.noted(d), group.utility(d)) for d, side in enumerate(group.defenders))
    return [own for own in found if own is not None]


def _benign(group: Group) -> BenignSection | None:
    named = [(side.label, d) for d, side in enumerate(group.defenders)]
    taken = {label: group.taken(d) for label, d in named}
    upwards, chartless = LOST, ""
    if group.nearest:
        radius = words.NORMS[group.threat.norm] + " " + words.epsilon(group.threat)
        upwards = (
            "the percentage of the attacked images of which the strongest attacker found an adversarial one "
            f"within {radius}, whatever its nearest distance; images that the classifier gets wrong anyway "
            "are not among them"
        )
        if math.isinf(group.threat.epsilon):
            chartless = (
                "There is no chart of what attackers get against what benign clients lose: success is a "
                "distance here, and a share of the images would need a finite epsilon."
            )
    return benign_section(
        {label: group.benign(d) for label, d in named},
        {label: rate for label, rate in taken.items() if rate is not None},
        [label for label, d in named if group.warns(d)],
        upwards,
        chartless,
    )


def _facts(run: LoggedRun, rows: Sequence[Row]) -> list[tuple[str, str]]:
    """What was played, where, and with which versions."""
    info = run.info
    ended = "not yet" if run.ended is None else f"{run.ended:%Y-%m-%d %H:%M:%S} UTC"
    facts: list[tuple[str, Any]] = [
        ("scenario", info.scenario),
        ("run", run.id),
        ("started", f"{run.started:%Y-%m-%d %H:%M:%S} UTC"),
        ("ended", ended),
        ("time at play", words.duration(sum(row.seconds for row in rows))),
        ("games", f"{sum(row.drawn for row in rows):,} drawn, {sum(row.played for row in rows):,} played"),
        ("queries", f"{sum(row.queries for row in rows):,}"),
        ("size", info.resolved.get("size") or NOTHING),
        ("seed", info.seed),
        ("device", info.device),
        ("batch", NOTHING if info.batch is None else info.batch),
        ("log level", info.level),
        ("fingerprint", info.fingerprint),
        *info.versions.items(),
    ]
    return [(key, str(value)) for key, value in facts]
