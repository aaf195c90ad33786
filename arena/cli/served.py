"""What `arena play` says of classifiers that are functions of a user's: calls announced, and calls made."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from arena.classifiers.served import CAUSES
from arena.cli.console import out, say
from arena.running.call_plan import CallPlan, Planned
from arena.running.runner import Run

_ABOUT = {"exact": "", "at most": "≤ ", "about": "≈ "}


def announce(run: Run) -> None:
    """Print what each function will be asked, by cause."""
    for plan in run.plans:
        _print(f"what {plan.name} will be asked", plan, run, "asked already")
        say(
            "images the function is asked for, and calls at most; ≤ at most, ≈ about. "
            "A game's queries are charged to the attacker, all else to nobody"
        )


def report(run: Run) -> None:
    """Print what each function was asked, beside what was announced."""
    for plan in run.plans:
        _print(f"what {plan.name} was asked", plan, run, "made")
        if repeated := run.calls.repeated[plan.name]:
            say(f"{repeated:,} of its calls failed and were tried again")


def _print(title: str, plan: CallPlan, run: Run, made: str) -> None:
    table = Table(title=escape(title), box=SIMPLE_HEAD)
    for head in ("for", "images\nannounced", "calls\nat most", f"images\n{made}", f"calls\n{made}"):
        table.add_column(head, justify="left" if head == "for" else "right")
    asked = run.calls.of(plan.name)
    for cause, words in CAUSES.items():
        planned, (calls, images) = plan.planned[cause], asked[cause]
        if images or planned != Planned():
            table.add_row(words, *_announced(planned), f"{images:,}", f"{calls:,}")
    totals = [sum(count[place] for count in asked.values()) for place in (1, 0)]
    table.add_section()
    whole = sum((plan.planned[cause] for cause in CAUSES), Planned())
    table.add_row("together", *_announced(whole), *(f"{count:,}" for count in totals))
    out.print(table)


def _announced(planned: Planned) -> list[str]:
    if planned.images is None:
        return ["unknown", "unknown"]
    calls = "unknown" if planned.calls is None else f"{planned.calls:,}"
    return [f"{_ABOUT[planned.kind]}{planned.images:,}", calls]
