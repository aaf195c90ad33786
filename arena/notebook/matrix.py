"""Several matches as a matrix, attackers by defenders: what `print` and a notebook show of them."""

from __future__ import annotations

from collections.abc import Mapping

from arena.notebook import words
from arena.records.match_record import MatchRecord
from arena.report.words import NORMS, number, rules

Records = Mapping[tuple[str, str], MatchRecord]
EMPTY = "no results"


def as_text(records: Records) -> str:
    """The lines that `print` shows."""
    if not records:
        return EMPTY
    lines = _lines(records)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    return "\n".join([_caption(records), *shown, *(f"  ! {note}" for note in _notes(records))])


def as_html(records: Records) -> str:
    """The table that a notebook shows."""
    if not records:
        return EMPTY
    head, *rows = _lines(records)
    return words.table(_caption(records), head, rows, _notes(records))


def _caption(records: Records) -> str:
    threats = [record.threat for record in records.values()]
    lowest = min(threats, key=lambda threat: threat.budget)
    what = f"median {NORMS[lowest.norm]} distance" if _nearest(records) else "accuracy left in percent"
    return f"{what} [95 %]; {rules(lowest, {threat.budget for threat in threats})}"


def _lines(records: Records) -> list[list[str]]:
    """The table's head, what is right without an attack, and a row for each attacker."""
    attackers = list(dict.fromkeys(attacker for attacker, _ in records))
    defenders = list(dict.fromkeys(defender for _, defender in records))
    first = {defender: record for (_, defender), record in reversed([*records.items()])}
    lines = [["attacker", *(_head(defender, first[defender]) for defender in defenders)]]
    if not _nearest(records):
        # The price of a defense, beside what it keeps.
        clean = [f"{100 * first[defender].accuracy('vote', at=0):.1f}" for defender in defenders]
        lines.append(["(no attack)", *clean])
    for attacker in attackers:
        cells = [records.get((attacker, defender)) for defender in defenders]
        lines.append([attacker, *("" if cell is None else _cell(cell) for cell in cells)])
    return lines


def _notes(records: Records) -> list[str]:
    """Sentences on what went wrong, or looks better than it is."""
    return [
        f"{attacker} against {defender}: {text}"
        for (attacker, defender), record in records.items()
        for text in words.remarks(record)
    ]


def _nearest(records: Records) -> bool:
    return next(iter(records.values())).threat.objective == "minimum"


def _head(defender: str, record: MatchRecord) -> str:
    if words.both_ends(record):
        return f"{defender} (answered to vote, unranked)"
    return f"{defender} ({record.headline}{'; answered' * (record.headline != 'answered')})"


def _cell(record: MatchRecord) -> str:
    """What the attacker leaves, by the headline, and by lucky answers beside it."""
    if record.tells_nothing:
        return "failed"
    broken = " !" * bool(record.failed.any())
    beside = record.headline != "answered"
    if record.threat.objective == "minimum":
        nearest = number(record.median_distance("answered")[0])
        return words.distance(record.median_distance()) + f"; {nearest}" * beside + broken
    (left, low, high), answered = record.accuracy_interval(), record.accuracy("answered")
    if words.both_ends(record):
        return f"{100 * answered:.1f} to {100 * left:.1f}{broken}"
    text = f"{100 * left:.1f} [{100 * low:.0f}, {100 * high:.0f}]"
    return text + f"; {100 * answered:.1f}" * beside + broken
