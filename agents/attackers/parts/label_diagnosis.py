"""What answers an attacker that sees labels alone: tests on repeated labels beside a boundary.

`wrong` counts, for each of n points, how many of m answers to the same query were labels that win; `beside`
the same for m queries that differ from it by less than the classifier can see. All are pure functions.
"""

from __future__ import annotations

from torch import Tensor

from agents.attackers.parts.diagnosis import ALPHA, binomial_tail


def mixed(wrong: Tensor, asked: int) -> Tensor:
    """[n] bool: whether answers to one point differed, from counts [n] of `asked` answers each."""
    return (wrong > 0) & (wrong < asked)


def is_coin(wrong: Tensor, asked: int) -> bool:
    """Whether the points with mixed answers look like fair coins rather than like noise on the input.

    The hypothesis is noise: beside a boundary its share of wrong answers is supposed to take all values from
    0 to 1 alike, so that a mixed count is uniform on {1, ..., asked - 1}. A coin's counts lie in the middle
    half, asked / 4 to 3 asked / 4, more often; an exact one-sided binomial test at `ALPHA`.
    """
    between = wrong[mixed(wrong, asked)]
    middle = [k for k in range(1, asked) if asked <= 4 * k <= 3 * asked]
    if not len(between) or not middle:
        return False
    inside = int(((between >= middle[0]) & (between <= middle[-1])).sum())
    return binomial_tail(inside, len(between), len(middle) / (asked - 1)) <= ALPHA


def is_parity(wrong: Tensor, beside: Tensor, asked: int) -> bool:
    """Whether the same query is always answered alike, and others that cannot be told from it are not.

    No test is needed: a classifier answers neither the same query, nor one 1e-5 away, otherwise, but where a
    boundary runs between them by chance. One point in ten may lie so.
    """
    if bool(mixed(wrong, asked).any()) or not len(beside):
        return False
    count = int(mixed(beside, asked).sum())
    return binomial_tail(count, len(beside), ALPHA) <= ALPHA


def won(wrong: Tensor, rows: int) -> Tensor:
    """How many of each `rows` answers in a row of `wrong` [n*rows] bool are True, [n]."""
    return wrong.view(len(wrong) // rows, rows).sum(dim=1)
