"""The tables of a page: columns with cells as HTML, without those that tell no rows apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from arena.evaluation.clean_utility import Utility
from arena.league.rates import Median, Rate
from arena.report import words
from arena.report.columns import NOTHING, Column, in_every_row, telling
from arena.report.groups import Group
from arena.report.results import agree, noted, own_rule
from arena.report.summary import VERDICTS, Row
from arena.report.words import number, percent, queries
from arena.rules.outcome import Reason, Verdict


@dataclass(frozen=True)
class Sheet:
    """A table with a row a match, or a defender; `same` says in words what is equal in every row."""

    columns: list[Column]
    same: str


@dataclass(frozen=True)
class Cell:
    """A cell of the matrix.

    Attributes:
        kind: its classes; share: how much is left, from 0 to 1, for its colour, None for none.
        title: the same in words.
    """

    content: Markup
    kind: str
    title: str
    share: float | None = None


def left_sheet(group: Group) -> Sheet:
    """What is left at each reported query count by the headline, and what defended classifiers are worth."""
    rows = [row for *_, row in group.pairs]
    columns = []
    if group.has_utilities:
        columns += _worth([row.utility for row in rows])
    columns.append(Column("verdict", tuple(_headline(row) for row in rows)))
    columns += [
        Column(f"at {at:,}", tuple(left_cell(row, at) for row in rows), always=at > 0) for at in group.counts
    ]
    return _sheet(columns)


def won_sheet(group: Group) -> Sheet:
    """Success by each verdict, one column where all agree, with queries and distances."""
    rows = [row for *_, row in group.pairs]
    columns = [_plain("played", rows, lambda row: str(row.played))]
    if all(agree(row) for row in rows):
        columns.append(Column("success", tuple(_success(row, row.verdict) for row in rows), always=True))
    else:
        columns += [Column(v, tuple(_success(row, v) for row in rows), always=True) for v in VERDICTS]
    if any(row.asked_again for row in rows):
        columns.append(_plain("again", rows, lambda row: _share(row.success_again)))
    if any(map(own_rule, rows)):
        columns.append(_plain("accepted", rows, lambda row: _share(row.accepted)))
    columns += [
        _plain("first hit: median query", rows, lambda row: queries(row.hit_median)),
        _plain("first hit: mean", rows, lambda row: queries(row.hit_mean)),
        _plain("queries a game: median", rows, lambda row: queries(row.queries_median)),
        _plain("queries a game: mean", rows, lambda row: queries(row.queries_mean)),
        _plain(f"median {words.NORMS[group.threat.norm]}", rows, lambda row: number(row.distance_median)),
    ]
    return _sheet(columns)


def asked_sheet(group: Group) -> Sheet | None:
    """How far from the clean images the queries at the reported counts lay, in l2; None in another norm, and
    where the log does not tell."""
    rows = [row for *_, row in group.pairs]
    counts = sorted({at for row in rows for at in row.query_l2})
    if group.threat.norm != "l2" or not counts:
        return None
    cells = [tuple(number(row.query_l2[at]) if at in row.query_l2 else "" for row in rows) for at in counts]
    return _sheet([Column(f"at {at:,}", own, always=True) for at, own in zip(counts, cells, strict=True)])


def ended_sheet(group: Group, reasons: Sequence[Reason]) -> Sheet:
    """Why games ended, and what was charged in all."""
    rows = [row for *_, row in group.pairs]
    columns = [
        _plain("shards", rows, lambda row: str(row.shards)),
        _plain("drawn", rows, lambda row: str(row.drawn)),
    ]
    columns += [Column(reason, tuple(_ended(row, reason) for row in rows)) for reason in reasons]
    if any(row.lost_early for row in rows):
        cells = (f"{row.lost_early} of {row.played}" if not row.facts else NOTHING for row in rows)
        columns.append(Column("ended early and lost its vote", tuple(cells), always=True))
    columns += [
        _plain("queries", rows, lambda row: f"{row.queries:,}"),
        _rare("refused", rows, lambda row: f"{row.refused:,}"),
        _rare("flagged", rows, lambda row: f"{row.detection.flagged:,}"),
        _rare("insider", rows, lambda row: f"{row.insider:,}"),
    ]
    if any(row.detection.outside for row in rows):
        columns.append(_plain("wrong answers outside the ball", rows, _outside))
    columns += noted(rows)
    return _sheet([*columns, _plain("time", rows, lambda row: words.duration(row.seconds))])


def clean_sheet(utilities: Sequence[Utility]) -> Sheet:
    """What defended classifiers are worth on clean images."""

    def column(head: str, value: Callable[[Utility], str], rare: bool = False) -> Column:
        return Column(head, tuple(value(u) for u in utilities), rare=rare)

    return _sheet(
        [
            column("images", lambda u: f"{u.images:,}"),
            Column("accuracy", tuple(rate_cell(words.accuracy(u)) for u in utilities), always=True),
            column("declined", lambda u: percent(u.declined), rare=True),
            column("refused", lambda u: percent(u.refused), rare=True),
            column("flagged", lambda u: percent(u.flagged, 2), rare=True),
            column("agreement", lambda u: percent(u.agreement, 2)),
            column("ECE, equal width", lambda u: percent(u.ece, 2)),
            column("ECE, equal mass", lambda u: percent(u.ece_mass, 2)),
            column("NLL", lambda u: number(u.nll)),
            column("cost at 1 row", lambda u: words.cost(u.cost_1, u.cost_1_low, u.cost_1_high, True)),
            column("ms at 1 row", lambda u: words.milliseconds(u.seconds_1)),
            column("rows of a batch", lambda u: NOTHING if u.batch is None else str(u.batch)),
            column(
                "cost at a batch",
                lambda u: words.cost(u.cost_batch, u.cost_batch_low, u.cost_batch_high, True),
            ),
            column("ms a query at a batch", lambda u: words.milliseconds(u.seconds_batch)),
            column("peak, MB", lambda u: words.megabytes(u.peak_bytes)),
            column("million multiply-adds", lambda u: words.millions(u.multiply_adds)),
            column("input moved, ℓ2", lambda u: number(u.input_l2), rare=True),
        ]
    )


def matrix_cell(group: Group, row: Row | None, defender: int, who: str) -> Cell:
    """What a match leaves at the budget."""
    if row is None or not row.drawn:
        return Cell(Markup(NOTHING), "", f"{who}: no game is finished")
    games = f"after {row.budget:,} queries, {row.played if group.nearest else row.drawn} games"
    failed = f"{row.failed} of {row.played} games failed" if row.failed else ""
    if row.hollow:
        return Cell(_lines(("failed", ""), failed), "cell weak", f"{who}: {failed}")
    by = row.left[row.budget]
    if row.both_ends and not group.nearest:
        said = " to ".join(f"{percent(by[v].value)} % by {v}" for v in ("answered", "vote"))
        content = Markup("").join(_end(by[v], v) for v in ("answered", "vote")) + _small(failed)
        return Cell(content, "cell ends", f"{who}: {said}, {games}")
    own = group.figure(row)
    text, span, unit = (
        (percent(own.value), words.span(own, 1), " %")
        if isinstance(own, Rate)
        else (number(own.value), words.between(own), "")
    )
    most = "≤ " if row.weak else ""
    kind = "cell weak" if row.weak else "cell"
    return Cell(
        _lines((most + text, span), _lucky(group, row, own), failed),
        f"{kind} worst" if group.is_worst(row, defender) else kind,
        f"{who}: {text}{unit} {span} left by {row.verdict} {games}" + (f", {failed}" if failed else ""),
        None if row.weak else group.share(row) if group.nearest else own.value,
    )


def left_cell(row: Row, at: int) -> Markup:
    """What is left at a query count, with intervals: by the headline, small by `answered`; or both ends."""
    if at not in row.left:
        return Markup("")
    by = row.left[at]
    if row.hollow and at:
        return Markup("failed")
    if row.both_ends and at:
        return Markup("").join(_end(by[verdict], verdict) for verdict in ("answered", "vote"))
    lucky = percent(by["answered"].value)
    beside = not row.facts and at and lucky != percent(by[row.verdict].value)
    return rate_cell(by[row.verdict]) + (_small(f"answered {lucky}") if beside else "")


def rate_cell(rate: Rate | None) -> Markup:
    """A rate in percent with its interval."""
    if rate is None:
        return Markup(NOTHING)
    return Markup("<b>{}</b> <small>{}</small>").format(percent(rate.value), words.span(rate))


def distance_cell(median: Median, answered: Median) -> Markup:
    """A median distance with its interval; small, the one by `answered`."""
    told, lucky = number(median.value), number(answered.value)
    text = Markup("<b>{}</b> <small>{}</small>").format(told, words.between(median))
    return text if told == lucky else text + _small(f"answered {lucky}")


def _lucky(group: Group, row: Row, own: Rate | Median) -> str:
    if row.facts or row.verdict == "answered":
        return ""
    if isinstance(own, Rate):
        told, lucky = percent(own.value), percent(row.left[row.budget]["answered"].value)
    else:
        assert row.distances is not None
        told, lucky = number(own.value), number(row.distances.answered[row.budget].value)
    return f"answered {lucky}" if told != lucky else ""


def _lines(first: tuple[str, str], *others: str) -> Markup:
    head = Markup("<b>{}</b>").format(first[0]) + (_small(first[1]))
    return head + Markup("").join(map(_small, others))


def _end(rate: Rate, verdict: Verdict) -> Markup:
    return Markup('<span class="end"><small>{}</small> <b>{}</b> <small>{}</small></span>').format(
        verdict, percent(rate.value), words.span(rate)
    )


def _small(text: str) -> Markup:
    return Markup('<small class="line">{}</small>').format(text) if text else Markup("")


def _worth(utilities: Sequence[Utility | None]) -> list[Column]:
    def column(head: str, value: Callable[[Utility], str]) -> Column:
        return Column(head, tuple(NOTHING if u is None else value(u) for u in utilities))

    return [
        column("clean accuracy", lambda u: percent(u.accuracy)),
        column("cost at a batch", lambda u: words.cost(u.cost_batch, u.cost_batch_low, u.cost_batch_high)),
    ]


def _headline(row: Row) -> str:
    return "both ends" if row.both_ends else row.verdict


def _success(row: Row, verdict: Verdict) -> str:
    """Success by a verdict, with its interval where it is the headline."""
    own = row.success[verdict]
    return rate_cell(own) if verdict == row.verdict else percent(own.value)


def _plain(head: str, rows: Sequence[Row], value: Callable[[Row], str]) -> Column:
    return Column(head, tuple(map(value, rows)))


def _rare(head: str, rows: Sequence[Row], value: Callable[[Row], str]) -> Column:
    return Column(head, tuple(map(value, rows)), rare=True)


def _share(rate: Rate | None) -> str:
    return NOTHING if rate is None else percent(rate.value)


def _ended(row: Row, reason: Reason) -> str:
    count = row.reasons.get(reason, 0)
    if reason in row.broken:
        return Markup('<span class="trouble">{}</span>').format(count)
    if reason == "no-start" and row.played and count:
        return Markup("{} <small>{} %</small>").format(count, percent(row.no_start))
    return str(count)


def _outside(row: Row) -> str:
    told = row.detection
    return f"{told.outside:,} of {told.wrong:,}" if told.outside else "0"


def _sheet(columns: Sequence[Column]) -> Sheet:
    shown, same = telling(columns)
    return Sheet(shown, in_every_row([(head, Markup(value).striptags()) for head, value in same]))
