"""Terminal tables of what benign clients lose."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from arena.evaluation.benign.losses import BenignLoss
from arena.report.benign_words import after, by_place, clients_of, delay, lost, of_sessions, share
from arena.report.columns import Column, in_every_row, telling
from arena.report.measures import WIDEST_NAME
from arena.report.words import percent, span

Losses = Sequence[tuple[str, Sequence[BenignLoss]]]
"""By the defender's label."""

LOST = (
    "lost: refused, answered without a label, or with another one than the undefended classifier gives the "
    "very same image"
)
LEGEND = (
    "shares of the queries and of the sessions with any such query, in percent; 95 % intervals over sessions",
    LOST,
    "delay: milliseconds that a query takes longer than undefended, all clients of a kind asked at a time; "
    "empty where its interval covers 0, or turns are too few for one",
    "clients of a kind share what the service remembers; a session has 1 to 100 queries: a defender that "
    "first watches an account for longer can refuse nothing here",
)


def lost_table(losses: Losses) -> Table:
    """The share of the queries that is lost, a line for each defender and history, a column a client."""
    clients = clients_of([own for _, own in losses])
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("defender\n  after queries", overflow="fold", min_width=12, max_width=WIDEST_NAME + 18)
    for client in clients:
        table.add_column(client.replace("-", "-\n"), justify="right", no_wrap=True, vertical="bottom")
    for label, own in losses:
        if own:
            table.add_section()
            table.add_row(f"[bold]{escape(label)}[/]")
        for history, by in by_place(own).items():
            table.add_row(f"  {after(history)}", *(lost(by.get(client)) for client in clients))
    return table


def benign_table(losses: Losses) -> tuple[Table, str]:
    """All counts, a line for each defender, history and client; and what is equal in every line."""
    rows = [(label, loss) for label, own in losses for loss in own]

    def column(head: str, value: Callable[[BenignLoss], str], rare: bool = False) -> Column:
        return Column(head, tuple(value(loss) for _, loss in rows), rare=rare)

    columns, same = telling(
        [
            column("sessions", lambda loss: f"{loss.sessions:,}"),
            column("queries", lambda loss: f"{loss.queries:,}"),
            column("lost", lambda loss: _lost(loss)),
            column("sessions\nlost", lambda loss: percent(of_sessions(loss, "lost").value)),
            column("refused", lambda loss: percent(share(loss, "refused").value), rare=True),
            column("flagged", lambda loss: percent(share(loss, "flagged").value), rare=True),
            column("sessions\nflagged", lambda loss: percent(of_sessions(loss, "flagged").value), rare=True),
            column("banned", lambda loss: percent(share(loss, "banned").value), rare=True),
            column("no\nlabel", lambda loss: percent(share(loss, "declined").value), rare=True),
            column("altered", lambda loss: percent(share(loss, "altered").value), rare=True),
            column("delay\nms", delay),
        ]
    )
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("defender, after\n  client", overflow="fold", min_width=16)
    for shown in columns:
        table.add_column(shown.head, justify="right", no_wrap=True, vertical="bottom")
    before = None
    for place, (label, loss) in enumerate(rows):
        if (label, loss.history) != before:
            table.add_section()
            table.add_row(f"[bold]{escape(label)}[/], after {after(loss.history)}")
            before = (label, loss.history)
        table.add_row(f"  {loss.client}", *(shown.cells[place] for shown in columns))
    return table, in_every_row(same)


def _lost(loss: BenignLoss) -> str:
    rate = share(loss, "lost")
    return f"{percent(rate.value)} {span(rate, 1)}"
