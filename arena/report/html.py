"""A run's report: one HTML file that needs no other file."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from arena.evaluation.clean_utility import Utility
from arena.log import Log
from arena.log.answers import LoggedRun
from arena.report import margins, words
from arena.report.charts import curves, exact
from arena.report.columns import NOTHING
from arena.report.detection import ESTIMATION
from arena.report.distance_charts import distance_curves, radius_curves, success_curves
from arena.report.distances import Distances
from arena.report.findings import findings, headline_of, notices
from arena.report.groups import Group, Side, grouped
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
from arena.report.strokes import COLOURS, DASHES
from arena.report.summary import VERDICTS, Row, progress, read_rows, read_run
from arena.report.templates import environment, write_page
from arena.rules.outcome import REASONS

MOST_COUNTS = 6
"""Of more reported query counts success against the radius is drawn at so many, evenly."""


@dataclass(frozen=True)
class Chart:
    """The curves of a defender.

    Attributes:
        svg: the drawing; description: the same in words.
    """

    title: str
    svg: Markup
    description: str


@dataclass(frozen=True)
class Section:
    """What the page shows of a group.

    Attributes:
        notes: whose rule and headline are kept; found: what was found, in sentences.
        matrix: what is left at the budget, a row an attacker; worth: of each defender, what it costs.
        left, won, asked, ended: tables with a row a match; asked: None in another norm than l2.
        clean: one with a row a defender, None without any.
        near: charts of distance and of success within radii, against queries.
        along: what the lines are, and charts of success against the radius.
        watched: charts of the defended and the undefended margin along games.
        flagging: the places of defenders that flagged something.
        drawn: what the lines of `charts` are.
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
    charts: list[Chart]
    near: list[Chart]
    along: tuple[list[str], list[Chart]]
    watched: list[Chart]
    flagging: list[int]
    drawn: str
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
        charts=_charts(group, place),
        near=_near(group, place),
        along=_along(group, place),
        watched=_watched(group, place, watched),
        flagging=[d for d in range(len(group.defenders)) if group.flags(d)],
        drawn=_lines_in_words(group),
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


def _charts(group: Group, place: int) -> list[Chart]:
    """One chart per defender, one line per attacker."""
    charts = []
    for d, side in enumerate(group.defenders):
        cells = [(a, group.cell(a, d)) for a in range(len(group.attackers))]
        lines = [(a, row) for a, row in cells if row is not None and row.drawn and not row.hollow]
        if lines:
            svg = Markup(curves(lines, f"g{place}d{d}"))
            title = f"{side.label}, {_drawn(lines[0][1])}"
            charts.append(Chart(title, svg, _accuracy_in_words(group, side, lines)))
    return charts


def _watched(group: Group, place: int, found: dict[int, list[margins.Course]]) -> list[Chart]:
    """The charts of margins along games, match by match."""
    charts = []
    for attacker, defender, row in group.pairs:
        for course in found.get(row.match.id, ()):
            ended = "won" if course.won else "kept"
            title = f"{attacker.label} against {defender.label}: image {course.image}, {ended}"
            svg = Markup(margins.margin_curves(course, f"g{place}m{row.match.id}i{ended}"))
            charts.append(Chart(title, svg, f"{title}. {margins.in_words(course)}"))
    return charts


def _lines_in_words(group: Group) -> str:
    parts = ["after every query"] if any(exact(row) for row in group.rows) else []
    if not all(exact(row) for row in group.rows):
        parts.append("○: at the reported counts, joined")
    if any(row.two_ends for row in group.rows):
        parts.append("dotted: by answered")
    return "; ".join(parts)


def _drawn(row: Row) -> str:
    """What a chart draws."""
    return "by answered and by vote" if row.both_ends else f"by {row.verdict}"


def _near(group: Group, place: int) -> list[Chart]:
    """The charts of distances: for each defender the medians, and success within each radius."""
    charts = []
    norm = words.NORMS[group.threat.norm]
    for d, side in enumerate(group.defenders):
        found = [(a, group.distances(a, d)) for a in range(len(group.attackers))]
        lines = [(a, own) for a, own in found if own is not None]
        if any(0 < m.value < math.inf for _, own in lines for m in own.median.values()):
            text = _in_words(group, lines, lambda own, at: words.number(own.median[at].value))
            svg = Markup(distance_curves(lines, norm, f"g{place}d{d}m"))
            title = f"{side.label}: median {norm}"
            charts.append(Chart(title, svg, f"Median distance that {side.label} leaves, by queries. {text}."))
        for r, radius in enumerate(lines[0][1].radii if lines else ()):
            if radius < math.inf:
                charts.append(_within(group, side, lines, radius, f"g{place}d{d}r{r}"))
    return charts


def _along(group: Group, place: int) -> tuple[list[str], list[Chart]]:
    """What the lines are, and the charts of success against the radius, one for each of some reported counts;
    with more lines than strokes, for each defender, too."""
    places = [(a, d) for d in range(len(group.defenders)) for a in range(len(group.attackers))]
    found = [(a, d, own) for a, d in places if (own := group.distances(a, d)) is not None and own.along]
    apart = len(found) > COLOURS * len(DASHES)
    names = [side.label for side in group.attackers]
    if not apart:
        names = [f"{group.attackers[a].label} against {group.defenders[d].label}" for a, d, _ in found]
    sets = (
        [[line for line in found if line[1] == d] for d in range(len(group.defenders))] if apart else [found]
    )
    counts = sorted({at for *_, own in found for at in own.counts})
    kept = np.unique(np.linspace(0, len(counts) - 1, min(MOST_COUNTS, len(counts))).round().astype(int))
    norm, charts = words.NORMS[group.threat.norm], []
    for at in [counts[i] for i in kept.tolist()]:
        for number, own_set in enumerate(sets):
            numbered = [(a if apart else n, own) for n, (a, _, own) in enumerate(own_set) if at in own.counts]
            if not numbered:
                continue
            title = f"{at:,} queries" + f", {group.defenders[own_set[0][1]].label}" * apart
            lines = [(n, own, own.verdict) for n, own in numbered]
            svg = Markup(radius_curves(lines, at, norm, f"g{place}a{at}s{number}"))
            said = "; ".join(
                f"{names[n]}, by {own.verdict}: "
                + ", ".join(
                    f"{words.percent(own.within[r][at][own.verdict].value)} % within {words.number(r)}"
                    for r in own.along
                )
                for n, own in numbered
            )
            charts.append(Chart(title, svg, f"Success against the {norm} radius at {title}. {said}."))
    return names, charts


def _within(
    group: Group, defender: Side, lines: Sequence[tuple[int, Distances]], radius: float, prefix: str
) -> Chart:
    verdict = next(row for _, side, row in group.pairs if side is defender).match.info.verdict
    svg = Markup(success_curves([(a, own, verdict) for a, own in lines], radius, prefix))
    text = _in_words(
        group, lines, lambda own, at: f"{words.percent(own.within[radius][at][verdict].value)} %"
    )
    of = f"{words.NORMS[group.threat.norm]} ≤ {words.number(radius)}"
    return Chart(
        f"{defender.label}: {of}, by {verdict}",
        svg,
        f"Success against {defender.label} within {of} by {verdict}, by queries. {text}.",
    )


def _in_words(
    group: Group, lines: Sequence[tuple[int, Distances]], value: Callable[[Distances, int], str]
) -> str:
    return "; ".join(
        f"{group.attackers[a].label}: " + ", ".join(f"{value(own, at)} at {at}" for at in own.counts)
        for a, own in lines
    )


def _accuracy_in_words(group: Group, defender: Side, lines: Sequence[tuple[int, Row]]) -> str:
    left = "; ".join(
        f"{group.attackers[a].label}: "
        + ", ".join(f"{words.left(row, at)} % at {at}" for at in row.left if at)
        for a, row in lines
    )
    by = "from answered to vote" if lines[0][1].both_ends else f"by {lines[0][1].verdict}"
    return f"Accuracy that {defender.label} has left, {by}, by queries. {left}."


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
