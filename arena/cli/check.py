"""`arena check`."""

from __future__ import annotations

from rich.markup import escape

from arena.cli.agent_words import agent_of
from arena.cli.console import out
from arena.conformance import agents_of, iter_checks


def check_command(agent: str) -> int:
    """Put an agent through the conformance checks; returns the exit status."""
    failed = 0
    colours = {"passed": "green", "failed": "red", "skipped": "yellow"}
    for subject in agents_of(agent_of("AGENT", agent)):
        out.print(f"[bold]{escape(agent)}[/] {escape(repr(subject))}", highlight=False, soft_wrap=True)
        for outcome in iter_checks(subject):
            failed += outcome.verdict == "failed"
            verdict = f"[{colours[outcome.verdict]}]{outcome.verdict:<8}[/]"
            out.print(
                f"  {verdict} {outcome.name:<13} {escape(outcome.asks)}", highlight=False, soft_wrap=True
            )
            if outcome.sentence:
                out.print(f"           {escape(outcome.sentence)}", highlight=False, soft_wrap=True)
    out.print(f"{failed} checks failed" if failed else "all checks passed", highlight=False)
    return 1 if failed else 0
