"""`arena compare`: two runs of a log, match by match on the same images."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from arena.cli.console import out, say, say_json
from arena.log import open_log
from arena.log.answers import LoggedMatch, LoggedRun
from arena.report.comparison import VERDICTS, Comparison, Difference, Pair, compare
from arena.report.summary import read_run
from arena.report.terminal import wide_enough
from arena.report.words import NORMS, number, percent

SIGNIFICANT = 0.05
_LONG = 16


def compare_command(log: str, first: int, second: int, as_json: bool) -> int:
    """Compare two runs of a log; returns the exit status."""
    with open_log(log, create=False) as book, book.snapshot():
        found = compare(book, read_run(book, first), read_run(book, second))
    if as_json:
        say_json(_as_json(found))
    else:
        _print(found)
    return 0


def _print(found: Comparison) -> None:
    for letter, run in zip("AB", (found.one, found.other), strict=True):
        say(f"{letter}: {_named(run)}")
    for key, a, b in found.differs:
        say(f"   {key}: A {_short(a)}, B {_short(b)}")
    for pair in found.pairs:
        say(f"\n{_title(pair)}")
        if pair.same:
            say("  the same match of the log in both runs")
            continue
        for key, a, b in pair.differs:
            say(f"  {key}: A {_short(a)}, B {_short(b)}")
        if any(pair.failed):
            a, b = pair.failed
            say(f"  failed games (error, stalled, no-start) are no evidence of strength: A {a:,}, B {b:,}")
        if pair.differences:
            wide_enough(out).print(_table(pair.differences))
        else:
            say("  no game was played in both")
    for letter, matches in (("A", found.only_one), ("B", found.only_other)):
        for match in matches:
            say(f"\nonly in {letter}: {_match(match)}")
    if found.tests:
        say(
            "\nB - A: shares in percent of the games won, on the same images, with paired 95 % intervals; "
            f"p: exact sign test (McNemar's), adjusted for all {found.tests} of them (Holm); "
            f"* below {SIGNIFICANT}"
        )


def _named(run: LoggedRun) -> str:
    ended = "" if run.ended else ", not ended"
    return f"run {run.id}, {run.info.title}, {run.started:%Y-%m-%d %H:%M} UTC{ended}"


def _title(pair: Pair) -> str:
    title = _match(pair.one)
    if (other := _match(pair.other)) != title:
        title = f"{title} (A), {other} (B)"
    if pair.same:
        return title
    of = f"{pair.games:,} games" + (f" of {pair.images:,} images" if pair.images != pair.games else "")
    apart = [
        f"{count:,} in {letter} alone"
        for count, letter in ((pair.only_one, "A"), (pair.only_other, "B"))
        if count
    ]
    when = "at their ends" if pair.at is None else f"at {pair.at:,} queries"
    return f"{title}, {when}: {', '.join([f'{of} in both', *apart])}"


def _match(match: LoggedMatch) -> str:
    i = match.info
    named = f"{i.attacker_title or i.attacker} vs {i.defender_title or i.defender}"
    return ", ".join(filter(None, (i.block, named, i.title)))


def _table(differences: Sequence[Difference]) -> Table:
    """A row for each verdict; one for several that come to the same."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 1))
    for head in ("", "A", "B", "B - A", "95 %", "B more", "B less", "p"):
        table.add_column(head, justify="right" if head else "left", no_wrap=True)
    rows: dict[tuple[str, ...], list[str]] = {}
    for d in differences:
        rows.setdefault(_figures(d), []).append(NORMS.get(d.what, d.what))
    for figures, whats in rows.items():
        table.add_row(escape(", ".join(whats)), *figures)
    return table


def _figures(d: Difference) -> tuple[str, ...]:
    show = percent if d.what in VERDICTS else number
    values = (show(d.one), show(d.other), _signed(d.difference, show))
    span = f"[{_signed(d.low, show)}, {_signed(d.high, show)}]"
    p = "<0.0001" if d.adjusted < 1e-4 else f"{d.adjusted:.4f}"
    return (*values, span, f"{d.more:,}", f"{d.less:,}", p + "*" * (d.adjusted < SIGNIFICANT))


def _signed(value: float, show: Any) -> str:
    if math.isnan(value):
        return str(show(value))
    return f"{'-' if value < 0 else '+' if value > 0 else ''}{show(abs(value))}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    is_sha = len(text) > _LONG and all(letter in "0123456789abcdef" for letter in text)
    return text[:8] if is_sha else text


def _as_json(found: Comparison) -> dict[str, Any]:
    def differing(items: Sequence[tuple[str, Any, Any]]) -> list[dict[str, Any]]:
        return [{"key": key, "a": a, "b": b} for key, a, b in items]

    def match(one: LoggedMatch) -> dict[str, Any]:
        i = one.info
        return {
            "id": one.id,
            "number": i.number,
            "attacker": i.attacker,
            "attacker_params": i.attacker_params,
            "defender": i.defender,
            "defender_params": i.defender_params,
            "block": i.block,
            "title": i.title,
        }

    return {
        "a": {"run": found.one.id, "title": found.one.info.title},
        "b": {"run": found.other.id, "title": found.other.info.title},
        "differs": differing(found.differs),
        "pairs": [
            {
                "a": match(pair.one),
                "b": match(pair.other),
                "same_match": pair.same,
                "games": pair.games,
                "failed": list(pair.failed),
                "images": pair.images,
                "only_in_a": pair.only_one,
                "only_in_b": pair.only_other,
                "at": pair.at,
                "differs": differing(pair.differs),
                "differences": [vars(d) for d in pair.differences],
            }
            for pair in found.pairs
        ],
        "only_in_a": [match(one) for one in found.only_one],
        "only_in_b": [match(one) for one in found.only_other],
    }
