"""What a group of matches found, in sentences that its intervals allow, and what a reader must know of it."""

from __future__ import annotations

from collections.abc import Sequence

from arena.league.rates import Median, Rate
from arena.records.evidence import misses_ball
from arena.report.groups import Group
from arena.report.summary import Row
from arena.report.words import NORMS, between, listed, number, percent, span
from arena.rules.outcome import FAILED

MOST_NAMED = 6
"""With more defenders the sentences name them without their figures, which the tables hold."""


def findings(group: Group) -> list[str]:
    """Sentences on what was found: what defenders keep against their strongest attackers, who keeps more
    than no defense, what lucky answers come to, and where games failed. No sentence ranks what the
    intervals do not tell apart, nor calls it equal."""
    every = range(len(group.defenders))
    ranked = [(d, row) for d in every if (row := group.worst(d)) is not None]
    open_ended = [d for d in every if not group.ranked(d)]
    sentences = [
        _kept(group, ranked),
        _compared(group, ranked),
        _lucky(group, ranked),
        _between(group, open_ended),
        _failures(group),
    ]
    return [sentence for sentence in sentences if sentence]


def headline_of(group: Group, keeps: str = "This page keeps") -> list[str]:
    """What heads a group's tables, as a sentence, where the scenario names it; else nothing."""
    named = sorted({row.verdict for row in group.rows if row.named})
    return [f"{keeps} the paper's headline: what is left by {' or '.join(named)}."] if named else []


def notices(row: Row) -> list[str]:
    """What a reader must know of a match: games that failed, and answers that left the ball."""
    info = row.match.info
    who = f"{info.attacker_title or info.attacker} against {info.defender_title or info.defender}"
    found = []
    if row.broken or row.weak:
        by = {reason: row.reasons[reason] for reason in FAILED if reason in row.reasons}
        ended = listed([f"{count} with {reason}" for reason, count in by.items()]).replace(" ", " ended ", 1)
        nothing = ", so that nothing is known of what is left" if row.hollow else ""
        first = f"; the first: {row.trouble}" if row.trouble else ""
        found.append(f"{who}: of {row.played} games {ended}{nothing}{first}")
    if strays(row):
        told, hits = row.detection, percent(row.success["answered"].value)
        found.append(
            f"{who}: {100 * told.outside / told.wrong:.0f} % of the {told.wrong:,} wrong answers lay outside "
            f"the ball (most of them asked for {told.straying}), and {hits} % of the games had a hit: does "
            "the attack project?"
        )
    return found


def strays(row: Row) -> bool:
    """Whether the match's attack seems to miss the ball (`misses_ball`)."""
    told, hit = row.detection, row.success["answered"].value
    return misses_ball(row.match.info.threat, told.outside, told.wrong, hit)


def _kept(group: Group, ranked: Sequence[tuple[int, Row]]) -> str:
    if not ranked or len(ranked) > MOST_NAMED:
        return ""
    many = len(group.attackers) > 1
    verdicts = {row.verdict for _, row in ranked}
    plain = all(row.facts and row.verdict == "answered" for _, row in ranked)
    one = f", by {verdicts.pop()}," if len(verdicts) == 1 and not plain else ""
    what = f"Median {NORMS[group.threat.norm]} distance" if group.nearest else "Accuracy left"
    budgets = listed([f"{budget:,}" for budget in sorted({row.budget for _, row in ranked})])
    against = f"the strongest of {len(group.attackers)} attackers" if many else group.attackers[0].label
    parts = []
    for d, row in ranked:
        attacker = next(a for a, other, r in group.cells if other == d and r is row)
        by = "" if one or plain or row.verdict == "answered" else f" by {row.verdict}"
        which = f" ({group.attackers[attacker].label})" if many else ""
        most = "at most " if row.failed else ""
        parts.append(f"{group.defenders[d].label} {most}{_said(group.figure(row))}{by}{which}")
    return f"{what}{one} after {budgets} queries against {against}, with 95 % intervals: {', '.join(parts)}."


def _compared(group: Group, ranked: Sequence[tuple[int, Row]]) -> str:
    """Who keeps more, and who less, than no defense, as far as the intervals tell."""
    bare = next((row for _, row in ranked if row.match.info.defender == "none"), None)
    if bare is None or bare.weak or len(ranked) < 2:
        return ""
    floor = group.figure(bare)
    more, less, same, weak = [], [], [], False
    for d, row in ranked:
        rows = [own for _, other, own in group.cells if other == d and own.drawn]
        if row is bare:
            continue
        if group.figure(row).high < floor.low:
            less.append(group.defenders[d].label)
        elif all(group.figure(own).low > floor.high and not own.weak for own in rows):
            more.append(group.defenders[d].label)
        else:
            same.append(group.defenders[d].label)
            weak = weak or any(own.weak for own in rows)
    parts = [f"{listed(more)} {_verb(more, 'keep')} more than no defense"] if more else []
    parts += [f"{listed(less)} {_verb(less, 'keep')} less than no defense"] if less else []
    if same:
        whether, than = ("whether", "") if parts else ("Whether", " than no defense")
        why = "" if weak else " (95 % intervals overlap)"
        parts.append(f"{whether} {listed(same)} {_verb(same, 'keep')} more{than} is open{why}")
    return "; ".join(parts) + "."


def _lucky(group: Group, ranked: Sequence[tuple[int, Row]]) -> str:
    """What the same matches leave if lucky answers count, where that is less than the headline's interval:
    the games are the same ones, so that the difference has no noise of its own."""
    parts = []
    for d, row in ranked[: MOST_NAMED + 1]:
        own, lucky = group.figure(row), _answered(group, row)
        if not row.facts and row.verdict != "answered" and lucky.value < own.low:
            parts.append(f"{group.defenders[d].label} {_said(lucky, interval=False)}")
    if not parts:
        return ""
    return f"Counting lucky answers (answered), the same games would leave {listed(parts)}."


def _between(group: Group, defenders: Sequence[int]) -> str:
    """The two ends under objective `first` where answers are no facts."""
    parts, alike = [], []
    for d in defenders[:MOST_NAMED]:
        rows = [row for _, other, row in group.cells if other == d and row.drawn and not row.hollow]
        if rows:
            low, high = (min(row.left[row.budget][v].value for row in rows) for v in ("answered", "vote"))
            label = group.defenders[d].label
            if percent(low) == percent(high):
                alike.append(f"{label} {percent(low)} %")
            else:
                parts.append(f"{label} from {percent(low)} to {percent(high)} %")
    said = f"By answered and by vote alike: {listed(alike)}." if alike else ""
    if not parts:
        return said
    return f"{said} ".lstrip() + (
        f"Between two ends, answered and vote: {listed(parts)}. Lucky answers flatter the attack; the vote "
        "flatters the defense, since under objective first an attacker stops at its first lucky answer. "
        "Objective submit tells what is left."
    )


def _failures(group: Group) -> str:
    rows = [row for row in group.rows if row.failed]
    if not rows:
        return ""
    counts = {reason: sum(row.reasons.get(reason, 0) for row in rows) for reason in FAILED}
    said = listed([f"{count:,} with {reason}" for reason, count in counts.items() if count])
    said = said.replace(" ", " ended ", 1)
    return (
        f"Failed games, marked !: of the {sum(row.played for row in rows):,} games of {len(rows)} "
        f"{'match' if len(rows) == 1 else 'matches'} {said}; what is left there is an upper bound."
    )


def _answered(group: Group, row: Row) -> Rate | Median:
    own = row.distances
    return row.left[row.budget]["answered"] if own is None or not group.nearest else own.answered[row.budget]


def _said(own: Rate | Median, interval: bool = True) -> str:
    """A figure with its interval."""
    if isinstance(own, Rate):
        return f"{percent(own.value)} %{f' {span(own)}' * interval}"
    return f"{number(own.value)}{f' {between(own)}' * interval}"


def _verb(names: Sequence[str], plural: str) -> str:
    return plural if len(names) > 1 else f"{plural}s"
