"""Ask rows several times, and give the inner attacker one answer to each."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor

from agents.attackers.parts.claims import REPEAT
from arena.players import Answers, Asking, Attacker, Games, Move, Play, Volley, relay

Convention = Literal["fixed", "adaptive"]
"""`fixed`: the threat's budget counts queries; `adaptive`: it counts decisions, and is multiplied by the
number of queries per decision."""
Merge = Callable[[Answers, int], Answers]
"""Makes the answers that the inner attacker gets [n] from those to m repeats of each of n rows [n*m]."""
Vary = Callable[[Tensor, Tensor], Tensor]
"""Makes the images that are sent [n*m,C,H,W] as repeats of rows `x` [n,C,H,W] of games `game` [n]."""


class Repeating(Attacker):
    """The parameters shared by attackers that repeat the rows of an inner attacker, `of`."""

    of: Attacker
    repeats: int
    convention: Convention

    @property
    def twin(self) -> Attacker:
        return self.of

    @property
    def budget_factor(self) -> int:
        return self.of.budget_factor * (self.repeats if self.convention == "adaptive" else 1)


def behind(games: Games, m: int) -> Games:
    """A seat for an attacker whose rows are asked m times, with budget / m decisions, rounded up.

    Its volleys are short enough for their repeats to fit into one volley.
    """
    seat = games.with_budget(_share(games.threat.budget, m))
    seat.max_rows = max(1, games.max_rows // m)
    return seat


def repeat(
    games: Games,
    seat: Games,
    of: Attacker,
    m: int,
    merge: Merge,
    *,
    only: Collection[str] | None = None,
    vary: Vary | None = None,
) -> Play:
    """Let `of` play at `seat`; its rows are asked m times, the repeats of a row side by side.

    It has left / m queries, rounded up, and can always use them: the last is repeated as often as queries are
    left. It gets more of them if rows of some purposes are asked only once. The repeats by which it tests
    what it stands by are: there one answer of the service counts, not what is made of m.

    Args:
        only: the purposes whose rows are repeated; None: all.
        vary: changes the repeats; None: they are the same image.
    """

    def answer(move: Move) -> Asking:
        if not isinstance(move, Volley):
            reply = yield move
            return replace(reply, left=_share(reply.left, m))
        once = move.purpose == REPEAT or (only is not None and move.purpose not in only)
        times = 1 if once else m
        account = None if move.account is None else move.account.repeat_interleave(times)
        x = vary(move.x, move.game) if vary and times > 1 else move.x.repeat_interleave(times, dim=0)
        answers = yield from games.ask(x, move.game.repeat_interleave(times), move.purpose, account)
        return replace(merge(answers, times), left=_share(answers.left, m))

    yield from relay(of.play(seat), answer)


def one_each(answers: Answers, m: int, **read: Any) -> Answers:
    """Answers [n] with the result of `read`; refused if all repeats were refused."""
    n = len(answers.game) // m
    answered = answers.answered.view(n, m).any(dim=1)
    refused = answers.refused.view(n, m).any(dim=1) & ~answered
    return replace(answers, game=answers.game.view(n, m)[:, 0], answered=answered, refused=refused, **read)


def _share(left: Any, m: int) -> Any:
    return -(-left // m)
