"""What a board found, in three sentences at most."""

from __future__ import annotations

import math
from collections.abc import Sequence

from arena.league.board import MatrixBoard
from arena.league.rates import Median, Rate


def sentences(boards: Sequence[MatrixBoard]) -> list[str]:
    """Of the matrix with most cells that may be ranked, at its largest query count: which defender keeps most
    against its strongest attackers, which attacker takes most, and what a mixture is worth."""
    if not boards:
        return ["The logs hold no finished games."]
    best = max(boards, key=lambda board: sum(not cell.withheld for cell in board.cells.values()))
    where = f"On {best.dataset} with {best.classifier}, at {best.at:,} queries"
    if len(boards) > 1:
        where += " (the largest of the matrices below)" if _one_count(boards) else ""
    if not best.defender_ranks:
        return [f"{where}, nothing can be ranked: {best.unsaid.get('defender_ranks', 'no games')}."]
    told = [f"{where}, {_defenders(best)}.", f"{_attackers(best)}."]
    return [*told, *_mixture(best)]


def _one_count(boards: Sequence[MatrixBoard]) -> bool:
    return len({(b.dataset, b.classifier, b.threat.with_budget(1)) for b in boards}) > 1


def _defenders(board: MatrixBoard) -> str:
    ranks = [rank for rank in board.defender_ranks if not rank.withheld]
    if not ranks:
        return "no defender can be ranked: " + board.defender_ranks[0].withheld
    first = ranks[0]
    worst = next(w for w in board.worst if w.defender == first.agent)
    if len(ranks) == 1:
        only = f"{first.agent}, the only defender that can be ranked,"
        return f"{only} keeps {_said(first.figure)} in its worst case"
    ties = [rank.agent for rank in ranks[1:] if rank.low == 1]
    settled = "is settled as better than all others"
    if first.high > 1:
        settled = _also(ties, "is not settled as better than", "is not settled as better than all others")
    return (
        f"{first.agent} keeps most in its worst case over {_count(len(worst.attackers), 'attacker')}, "
        f"{_said(first.figure)}, and {settled}"
    )


def _attackers(board: MatrixBoard) -> str:
    ranks = [rank for rank in board.attacker_ranks if not rank.withheld]
    if not ranks:
        return "No attacker can be ranked: " + board.attacker_ranks[0].withheld
    first = ranks[0]
    if len(ranks) == 1:
        return f"{first.agent} is the only attacker that can be ranked"
    ties = [rank.agent for rank in ranks[1:] if rank.low == 1]
    settled = "it is settled as stronger than all others"
    if first.high > 1:
        settled = _also(ties, "it is not settled as stronger than", "it is not settled as stronger than all")
    leaves = f"Of the attackers {first.agent} leaves least to the defender hardest for it"
    return f"{leaves}, {_said(first.figure)}; {settled}"


def _mixture(board: MatrixBoard) -> list[str]:
    game = board.equilibrium
    if game is None or len(game.defenders) < 2:
        return []
    members = [member for member in game.defenders if member.share > 0.005]
    if len(members) == 1:
        text = f"No mixture of defenders is better than {members[0].agent} alone"
        return [f"{text}, which keeps {_said(game.value)}."]
    names = _listed([f"{100 * member.share:.0f} % {member.agent}" for member in members])
    text = f"A client's defender drawn from {names} keeps {_said(game.value)}"
    if not game.pure or math.isnan(game.gain.value):
        return [f"{text}; no defender keeps to the caps by itself."]
    gain = f"{_points(game.gain)} points compared with {game.pure} alone"
    settled = game.gain.low > 0 or game.gain.high < 0
    return [f"{text}, {gain}{'' if settled else ', so that neither is settled as better'}."]


def _also(ties: Sequence[str], open_: str, closed: str) -> str:
    return f"{open_} {_listed(ties)}" if ties else closed


def _said(figure: Rate | Median) -> str:
    if isinstance(figure, Median):
        return f"a median distance of {figure.value:.3g} [{figure.low:.3g}, {figure.high:.3g}]"
    return f"{100 * figure.value:.1f} % [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"


def _points(figure: Rate) -> str:
    return f"{100 * figure.value:+.1f} [{100 * figure.low:+.1f}, {100 * figure.high:+.1f}]"


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
