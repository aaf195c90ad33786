"""A match in a few lines, for people: what `print` and a notebook show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from arena.players.registry import AgentError, Kind, agent_class, parameters_of
from arena.records.evidence import misses_ball
from arena.records.match_record import Estimate, Judgement, MatchRecord, verdicts_of
from arena.report.words import NORMS, number, queries, rules
from arena.rules.outcome import FAILED, Reason

NOTHING = "nothing is known"
UNRANKED = (
    'objective "first" stops at the first wrong answer, which may be luck: `answered` flatters the attack, '
    "`vote` the defense; neither ranks them"
)


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
    """Who played against what, with the parameters that are not the agents' defaults."""
    info = record.match
    own = _changed("attacker", [{"name": info.attacker, **info.attacker_params}])
    other = _changed("defender", info.defender_params.get("defenders", []))
    return f"{record.attacker}{own} against {record.defender}{other}, {info.classifier}"


def facts(record: MatchRecord) -> list[tuple[str, str]]:
    """What a reader wants to know first, by its name."""
    shown = [("rules", rules(record.threat, {record.threat.budget})), ("games", _games(record))]
    if record.tells_nothing:
        known = f"{NOTHING}: every game that was played failed ({_endings(record)})"
        return [*shown, ("accuracy left", known), ("queries", _queries(record))]
    if record.threat.objective == "minimum":
        text = f"{distance(record.median_distance())} by {record.headline}, {NORMS[record.threat.norm]}"
        if record.headline != "answered":
            text += f"; answered {number(record.median_distance('answered')[0])}"
        shown.append(("median distance", text))
    shown += [("accuracy left", left(record)), ("success", success(record))]
    if both_ends(record):
        shown.append(("verdicts", UNRANKED))
    return [*shown, ("queries", _queries(record)), ("ended", _endings(record))]


def remarks(record: MatchRecord) -> list[str]:
    """Sentences about what went wrong, or looks better than it is."""
    said, played = [], int(record.played.sum())
    broken = {reason: n for reason, n in record.endings.items() if reason in FAILED}
    if broken:
        text = f"{_counted(broken)} of {played} games ended so that they say little about the defense"
        said.append(text + (f"; the first error: {record.first_error}" if record.first_error else ""))
    outside, wrong = record.outside
    hit = float(record.answered[record.played].mean()) if played else 0.0
    if misses_ball(record.threat, outside, wrong, hit):
        said.append(
            f"{_part(outside, wrong)} % of the wrong answers lay outside the ball ({outside:,} of {wrong:,})"
        )
    if record.lost_early:
        early = f"{record.lost_early} of {played} games the attacker ended with queries left"
        said.append(f"{early}, though their final images lose the vote")
    return said


def both_ends(record: MatchRecord) -> bool:
    """Whether neither verdict may head the result: objective `first`, and answers are no facts."""
    return record.threat.objective == "first" and not record.answers_are_facts


def left(record: MatchRecord) -> str:
    """The accuracy left by the headline, with its interval, and by the other verdicts."""
    return _by_verdict(record, {v: record.accuracy_interval(v) for v in verdicts_of(record)})


def success(record: MatchRecord) -> str:
    """The share of games won by the headline, with its interval, and by the other verdicts."""
    return _by_verdict(record, {v: record.success(v) for v in verdicts_of(record)})


def _by_verdict(record: MatchRecord, found: Mapping[Judgement, Estimate]) -> str:
    """Shares in percent: one if all agree; where neither `answered` nor `vote` may head them, both."""
    if len({percent(value) for value, _, _ in found.values()}) == 1:
        value = found[record.headline]
        return estimate(value) + " by every verdict" * (not math.isnan(value[0]))
    heads: list[Judgement] = ["answered", "vote"] if both_ends(record) else [record.headline]
    shown = [f"{estimate(found[verdict])} by {verdict}" for verdict in heads]
    others = [f"{verdict} {percent(value[0])}" for verdict, value in found.items() if verdict not in heads]
    return "; ".join([" and ".join(shown), ", ".join(others)])


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


def _games(record: MatchRecord) -> str:
    drawn, played = len(record.games), int(record.played.sum())
    text = f"{drawn:,} {'image' if drawn == 1 else 'images'}, {played:,} played; "
    text += f"clean accuracy {percent(record.clean_accuracy)}"
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


def _changed(kind: Kind, agents: Sequence[Mapping[str, Any]]) -> str:
    """The agents' parameters that are not their defaults, in brackets; all of an agent not installed here."""
    found = []
    for agent in agents:
        try:
            defaults = {p.name: p.default for p in parameters_of(agent_class(kind, agent["name"]))}
        except AgentError:
            defaults = {}
        for key, value in agent.items():
            inside = isinstance(value, Mapping) or key == "name"
            if not inside and repr(tuple(value) if isinstance(value, list) else value) != defaults.get(key):
                found.append(f"{key}={value}")
    return f" ({', '.join(found)})" if found else ""


def _counted(endings: Mapping[Reason, int]) -> str:
    return ", ".join(f"{reason} {n:,}" for reason, n in endings.items())


def _part(some: int, whole: int) -> str:
    """A share in whole percent that says 100 only of all."""
    return f"{min(99, round(100 * some / whole)) if some < whole else 100}"
