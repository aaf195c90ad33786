"""What a replayed game comes to, in words and numbers: for the terminal and for pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arena.report.words import NORMS, number
from arena.running.filming import Film

MOST_FLIPS = 8
"""So many changes of the answered label are told, the others are counted."""
MOST_FACTS = 3


@dataclass(frozen=True)
class PurposeLine:
    """The queries of one purpose: how many, from which turn to which, and what became of them."""

    purpose: str
    queries: int
    first: int
    last: int
    refused: int
    flagged: int
    hits: int


def title(film: Film) -> str:
    """Which game it is, in a line."""
    game, info = film.game, film.match.info
    target = "" if game.target is None else f", target {game.target}"
    sides = f"{info.attacker_title or info.attacker} against {info.defender_title or info.defender}"
    return (
        f"game {game.id}: {sides}, image {game.image} of {info.dataset} (label {game.label}{target}), "
        f"repeat {game.repeat}"
    )


def outcome(film: Film) -> str:
    """How it ended, in a line, by what the log says."""
    game, threat = film.game, film.match.info.threat
    distance = game.linf if threat.norm == "linf" else game.l2
    hit = "no hit" if game.hit_at is None else f"first hit at query {game.hit_at:,}"
    far = "" if not np.isfinite(distance) else f", {NORMS[threat.norm]} distance {number(distance)}"
    answered = "a hit" if game.answered else "no hit"
    ended = f"ended {game.reason} after {game.queries:,} of {threat.budget:,} queries"
    return (
        f"{ended} ({game.refused:,} refused); {hit}; final image: {answered} as answered, "
        f"wins {game.vote:.0%} of fresh answers, {'wins' if game.base else 'does not win'} undefended{far}"
    )


def purposes(film: Film) -> list[PurposeLine]:
    """The purposes of the game's queries, by the turns of their first ones."""
    rows, found = film.rows, list[PurposeLine]()
    named = np.array(rows.purpose, dtype=object)
    for purpose in dict.fromkeys(rows.purpose):
        own = np.flatnonzero(named == purpose)
        counts = [int(np.count_nonzero(column[own])) for column in (rows.refused, rows.flagged, rows.hit)]
        found.append(PurposeLine(purpose, len(own), int(rows.turn[own[0]]), int(rows.turn[own[-1]]), *counts))
    return found


def flips(film: Film) -> list[tuple[int, int, int]]:
    """Where the answered label changed: (turn, from, to). A query without a label changes nothing."""
    given = np.flatnonzero(film.rows.label >= 0)
    label, turn = film.rows.label[given], film.rows.turn[given]
    before = np.concatenate([[film.game.label], label[:-1]])
    changed = np.flatnonzero(label != before)
    return [(int(turn[i]), int(before[i]), int(label[i])) for i in changed.tolist()]


def flips_in_words(film: Film) -> str:
    """The changes of the answered label in a line."""
    found = flips(film)
    if not found:
        return f"the answered label was {film.game.label} throughout"
    told = ", ".join(f"{a} to {b} at {turn:,}" for turn, a, b in found[:MOST_FLIPS])
    more = f" and {len(found) - MOST_FLIPS:,} times more" if len(found) > MOST_FLIPS else ""
    return f"the answered label changed from {told}{more}"


def binned(film: Film, values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """[bins] the means of a column of the game's queries over equal spans of turns; NaN where there is none.
    With fewer turns than bins each is its own."""
    turn, last = film.rows.turn, int(film.rows.turn.max(initial=0))
    bins = max(1, min(bins, last))
    place = np.minimum((turn - 1) * bins // max(last, 1), bins - 1)
    finite = np.isfinite(values)
    sums = np.bincount(place[finite], values[finite], minlength=bins)
    counts = np.bincount(place[finite], minlength=bins)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def judged(film: Film) -> tuple[str, bool]:
    """What the check against the log came to, in a sentence, and whether the log is confirmed.

    A game that was not played again is not confirmed.
    """
    checked = film.checked
    if checked is None:
        return f"not checked: {film.why}; what is shown is what the log holds", False
    place, comparison = film.game.place, checked.comparison
    mine = comparison.of_game(place)
    others = [game for game in comparison.games if game != place]
    if not checked.replayed.promised:
        return _by_shares(film, len(mine))
    if not comparison.equal:
        if not mine:
            elsewhere = (
                f"{len(others)} other games of its shard do" if others else "the counts of its shard do"
            )
            first = str(comparison.differences[0])
            return f"the game equals the log's, bit for bit, but {elsewhere} not: {first}", False
        what = "; ".join(map(str, mine[:MOST_FACTS]))
        return f"differs from the log, though machine, versions and code are the same: {what}", False
    logged = _logged(film)
    return f"checked: {logged} equal to the log's, bit for bit", True


def _logged(film: Film) -> str:
    """What of a game was compared."""
    assert film.checked is not None
    level, count = film.checked.replayed.shard.level, film.game.queries
    if level == "games":
        return "verdicts and final image (no queries are logged) are"
    queries = "1 query" if count == 1 else f"{count:,} queries"
    return queries if level == "queries" else f"the logged ones of {queries}"


def _by_shares(film: Film, differences: int) -> tuple[str, bool]:
    assert film.checked is not None
    facts = film.checked.replayed.play.other_facts
    told = "; ".join(facts[:MOST_FACTS]) + ("; ..." if len(facts) > MOST_FACTS else "")
    mine = "the game equals the log's all the same" if not differences else "the game differs from the log's"
    comparison = film.checked.comparison
    worst = min(comparison.shares, key=lambda share: share.p)
    within = comparison.within
    verdict = "agree within tolerance" if within else "are beyond tolerance"
    if not within and worst.within:
        verdict = "cannot be compared: the log's games are of other images, labels or targets"
    said = (
        f"another machine, version or code plays here ({told}), so that the same bits are not promised: "
        f"{mine}; the verdicts of its shard {verdict} ({worst})"
    )
    return said, within
