"""A match in a few lines, for people: what `print` and a notebook show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from arena.records.match_record import FAILED, VERDICTS, Estimate, Judgement, MatchRecord
from arena.report.words import NORMS, number, queries, rules
from arena.rules.outcome import Reason

NOTHING = "nothing is known"
LUCKY = 0.5
"""The share of wrong answers outside the ball from which on they are told, where most games were kept."""


def percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def estimate(value: Estimate) -> str:
    """A share with its interval, in percent."""
    if math.isnan(value[0]):
        return NOTHING
    return f"{percent(value[0])} [{100 * value[1]:.1f}, {100 * value[2]:.1f}]"


def distance(value: Estimate) -> str:
    """A median distance with its interval."""
    if math.isnan(value[0]):
        return NOTHING
    return f"{number(value[0])} [{number(value[1])}, {number(value[2])}]"


def title(record: MatchRecord) -> str:
    return f"{record.attacker} against {record.defender}, {record.match.classifier}"


def facts(record: MatchRecord) -> list[tuple[str, str]]:
    """What a reader wants to know first, by its name."""
    shown = [("rules", rules(record.threat, {record.threat.budget})), ("games", _games(record))]
    if record.tells_nothing:
        known = f"{NOTHING}: every game that was played failed ({_endings(record)})"
        return [*shown, ("accuracy left", known), ("queries", _queries(record))]
    if record.threat.objective == "minimum":
        text = f"{distance(record.median_distance())}, of hits, in {NORMS[record.threat.norm]}"
        shown.append(("median distance", text))
    shown += [("accuracy left", left(record)), ("success", success(record))]
    return [*shown, ("queries", _queries(record)), ("ended", _endings(record))]


def remarks(record: MatchRecord) -> list[str]:
    """Sentences about what went wrong, or looks better than it is."""
    said, played = [], int(record.played.sum())
    broken = {reason: n for reason, n in record.endings.items() if reason in FAILED}
    if broken:
        text = f"{_counted(broken)} of {played} games ended so that they say little about the defense"
        said.append(text + (f"; the first error: {record.first_error}" if record.first_error else ""))
    outside, wrong = record.outside
    if wrong and outside / wrong >= LUCKY and record.answered[record.played].mean() < LUCKY:
        said.append(
            f"{_part(outside, wrong)} % of the wrong answers lay outside the ball ({outside:,} of {wrong:,})"
        )
    if not record.answers_are_facts and record.early:
        kept = f"{record.early} of {played} games ended on a hit with queries left"
        said.append(f"{kept}, though their final images lose the vote")
    return said


def both_ends(record: MatchRecord) -> bool:
    """Whether neither verdict may head the result: objective `first`, and answers are no facts."""
    return record.threat.objective == "first" and not record.answers_are_facts


def left(record: MatchRecord) -> str:
    """The accuracy left by the headline, and small beside it by the other verdicts."""
    if both_ends(record):
        vote, answered = (record.accuracy_interval(v) for v in ("vote", "answered"))
        return (
            f"from {estimate(answered)} (answered, which flatters the attack) to {estimate(vote)} (vote, "
            f"which flatters the defense); base {percent(record.accuracy('base'))}"
        )
    others = [f"{v} {percent(record.accuracy(v))}" for v in _others(record)]
    return f"{estimate(record.accuracy_interval())} by {record.headline}; {', '.join(others)}"


def success(record: MatchRecord) -> str:
    """The share of games won by the headline, and small beside it by the other verdicts."""
    if both_ends(record):
        vote, answered = (record.success(v) for v in ("vote", "answered"))
        ends = f"from {estimate(vote)} (vote) to {estimate(answered)} (answered)"
        return f"{ends}; base {percent(record.success('base')[0])}"
    others = [f"{v} {percent(record.success(v)[0])}" for v in _others(record)]
    return f"{estimate(record.success())} by {record.headline}; {', '.join(others)}"


def as_text(record: MatchRecord) -> str:
    """The lines that `print` shows."""
    width = max(len(name) for name, _ in facts(record))
    lines = [f"  {name:<{width}}  {text}" for name, text in facts(record)]
    return "\n".join([title(record), *lines, *(f"  ! {text}" for text in remarks(record))])


def as_html(record: MatchRecord) -> str:
    """The table that a notebook shows."""
    rows = facts(record)
    return table(title(record), [], [[name, text] for name, text in rows], remarks(record))


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """An HTML table whose first column names its rows, with sentences under it."""
    heads = "".join(f"<th>{escape(text)}</th>" for text in head)
    body = "".join(
        f'<tr><th style="text-align:left">{escape(first)}</th>'
        + "".join(f'<td style="text-align:left">{escape(text)}</td>' for text in rest)
        + "</tr>"
        for first, *rest in rows
    )
    under = "".join(f"<div><strong>!</strong> {escape(text)}</div>" for text in notes)
    top = f"<thead><tr>{heads}</tr></thead>" if head else ""
    return (
        f'<div><table><caption style="text-align:left"><strong>{escape(caption)}</strong></caption>'
        f"{top}<tbody>{body}</tbody></table>{under}</div>"
    )


def _others(record: MatchRecord) -> list[Judgement]:
    """The verdicts that do not head the result, and `again` where a defender remembers."""
    beside: list[Judgement] = [verdict for verdict in VERDICTS if verdict != record.headline]
    return beside if np.isnan(record.again).all() else [*beside, "again"]


def _games(record: MatchRecord) -> str:
    drawn, played = len(record.games), int(record.played.sum())
    text = f"{drawn:,} images, {played:,} played; clean accuracy {percent(record.clean_accuracy)}"
    if 0 in record.marks and record.defender != "none":
        text += f" ({percent(record.accuracy('vote', at=0))} behind the defense)"
    return text


def _queries(record: MatchRecord) -> str:
    asked, hits = record.queries[record.played], record.games.hit_at[record.games.hit_at > 0]
    if not len(asked):
        return "none"
    text = f"mean {queries(float(asked.mean()))}, median {queries(float(np.median(asked)))}"
    return text + (f"; to the first hit, median {queries(float(np.median(hits)))}" if len(hits) else "")


def _endings(record: MatchRecord) -> str:
    return _counted(record.endings) or "no game was played"


def _counted(endings: Mapping[Reason, int]) -> str:
    return ", ".join(f"{reason} {n:,}" for reason, n in endings.items())


def _part(some: int, whole: int) -> str:
    """A share in whole percent that says 100 only of all."""
    return f"{min(99, round(100 * some / whole)) if some < whole else 100}"
