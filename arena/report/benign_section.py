"""What a page says of benign traffic: a table, all counts, and defenders between two prices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from arena.evaluation.benign.losses import BenignLoss
from arena.league.prices import benign_lost
from arena.league.rates import Rate
from arena.report.benign_words import (
    HOW,
    after,
    by_place,
    clients_of,
    delay,
    of_sessions,
    share,
)
from arena.report.columns import NOTHING, Column, in_every_row, telling
from arena.report.pareto import Point, described, legend, pareto_chart
from arena.report.words import listed, percent, span

LOST = (
    "the percentage of the images that are lost to the strongest attacker, those that the classifier gets "
    "wrong anyway included"
)
"""What attackers get, where success is no distance."""


@dataclass(frozen=True)
class BenignSection:
    """What a page shows.

    Attributes:
        clients: the columns. rows: by defender its histories in words, each with a cell a client: what is
            lost, and its interval.
        columns: of all counts, in the order of `places`: defender, history in words, client; same: what is
            equal in every row.
        chart: what attackers get against what benign clients lose, None without two defenders;
            legend: its marks; described: it in words; upwards: what its axis of attackers says;
            chartless: why there is none, "" where there is, and where one defender alone was measured.
        unmeasured: a sentence on defenders that refuse or flag and met no benign clients; "" without any.
    """

    clients: list[str]
    rows: list[tuple[str, list[tuple[str, list[tuple[str, str]]]]]]
    places: list[tuple[str, str, str]]
    columns: list[Column]
    same: str
    chart: Markup | None
    legend: list[tuple[str, Markup]]
    described: str
    upwards: str
    chartless: str
    unmeasured: str


def benign_section(
    losses: Mapping[str, Sequence[BenignLoss]],
    taken: Mapping[str, Rate],
    warning: Sequence[str],
    upwards: str = LOST,
    chartless: str = "",
) -> BenignSection | None:
    """The section on some defenders; None where there is nothing to say.

    Args:
        losses: by defender, empty where not measured.
        taken: the share of the images that the strongest attacker of each gets, where that is known.
        warning: the defenders that refused or flagged something.
        upwards: what `taken` is, in words. chartless: why nobody's is known; "" where it is.
    """
    known = {label: own for label, own in losses.items() if own}
    missing = [label for label in warning if label not in known]
    if not known and not missing:
        return None
    clients = clients_of(list(known.values()))
    rows = [
        (label, [(after(history), _cells(by, clients)) for history, by in by_place(own).items()])
        for label, own in known.items()
    ]
    every = [(label, loss) for label, own in known.items() for loss in own]
    columns, same = telling(_columns([loss for _, loss in every])) if every else ([], [])
    points = [Point(label, benign_lost(own), taken[label]) for label, own in known.items() if label in taken]
    drawn = len(points) > 1
    return BenignSection(
        clients=clients,
        rows=rows,
        places=[(label, after(loss.history), loss.client) for label, loss in every],
        columns=columns,
        same=in_every_row(same),
        chart=pareto_chart(points) if drawn else None,
        legend=legend(points) if drawn else [],
        described=described(points) if drawn else "",
        upwards=upwards,
        chartless=chartless if len(known) > 1 and not drawn else "",
        unmeasured=_unmeasured(missing),
    )


def _unmeasured(labels: Sequence[str]) -> str:
    if not labels:
        return ""
    one = len(labels) == 1
    return (
        f"{listed(labels)} {'refuses' if one else 'refuse'} or {'flags' if one else 'flag'} queries; what "
        f"{'it takes' if one else 'they take'} from clients that attack nobody was not measured. The line "
        f"{HOW} in the scenario has 20 of each kind played."
    )


def _cells(by: Mapping[str, BenignLoss], clients: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for client in clients:
        rate = share(by[client], "lost") if client in by else None
        found.append((NOTHING, "") if rate is None else (percent(rate.value), span(rate, 1)))
    return found


def _columns(losses: Sequence[BenignLoss]) -> list[Column]:
    def column(head: str, value: Callable[[BenignLoss], Any], rare: bool = False) -> Column:
        return Column(head, tuple(str(value(loss)) for loss in losses), rare=rare)

    def rate(head: str, of: Callable[..., Rate], what: str, rare: bool = True) -> Column:
        return column(head, lambda loss: _told(of(loss, what)), rare)

    return [
        column("sessions", lambda loss: f"{loss.sessions:,}"),
        column("queries", lambda loss: f"{loss.queries:,}"),
        column("answers an image", lambda loss: loss.draws),
        rate("queries refused", share, "refused"),
        rate("sessions refused", of_sessions, "refused"),
        rate("queries flagged", share, "flagged"),
        rate("sessions flagged", of_sessions, "flagged"),
        rate("queries banned", share, "banned"),
        rate("sessions banned", of_sessions, "banned"),
        rate("queries without a label", share, "declined"),
        rate("queries with another label", share, "altered"),
        rate("sessions with another label", of_sessions, "altered"),
        column("delay, ms", delay),
    ]


def _told(rate: Rate) -> str:
    """A share with its interval; without any such query "0.0" alone, so that a column of them can be left
    out."""
    return f"{percent(rate.value)} {span(rate, 1)}" if rate.value else percent(0.0)
