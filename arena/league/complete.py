"""The largest part of a matrix in which every pair has a cell."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from arena.rules.outcome import Bools


def complete(there: Bools) -> tuple[Bools, Bools]:
    """The attackers and defenders to keep, as masks, so that all pairs of them are there and the fewest
    agents are dropped; of as few, rather so that two defenders are left, since one makes no game, and else
    rather defenders, since an attacker less flatters all that are left.

    The fewest agents that meet all missing pairs are a smallest vertex cover of a bipartite graph, which its
    largest matching gives (Koenig 1931). Each pair that is there is kept once by force, so that both sides
    keep somebody; none is kept if no pair is there.

    Args:
        there: [A,D].
    """
    best, most = (np.zeros(there.shape[0], np.bool_), np.zeros(there.shape[1], np.bool_)), (0, 0, 0)
    if there.all():
        return ~best[0], ~best[1]
    for a, d in zip(*np.nonzero(there), strict=True):
        rows, columns = np.flatnonzero(there[:, d]), np.flatnonzero(there[a])
        inner = ~there[np.ix_(rows, columns)]
        for drop_a, drop_d in (_cover(inner), _cover(inner.T)[::-1]):
            kept = np.zeros_like(best[0]), np.zeros_like(best[1])
            kept[0][rows[~drop_a]] = True
            kept[1][columns[~drop_d]] = True
            attackers, defenders = int(kept[0].sum()), int(kept[1].sum())
            if (found := (attackers + defenders, min(defenders, 2), attackers)) > most:
                most, best = found, kept
    return best


def _cover(edges: Bools) -> tuple[Bools, Bools]:
    """A smallest vertex cover of a bipartite graph [A,D], with as few of A as such a one can have."""
    match = maximum_bipartite_matching(csr_array(edges.astype(np.int8)), perm_type="column")  # of each row
    a, d = edges.shape
    partner = np.full(d, -1)
    partner[match[match >= 0]] = np.flatnonzero(match >= 0)
    # Along alternating paths from free columns: the cover is the rows reached and the columns not reached.
    row, column = np.zeros(a, np.bool_), partner < 0
    waiting: list[int] = np.flatnonzero(column).tolist()
    while waiting:
        for i in np.flatnonzero(edges[:, waiting.pop()] & ~row).tolist():
            row[i] = True
            if match[i] >= 0 and not column[match[i]]:
                column[match[i]] = True
                waiting.append(int(match[i]))
    return row, ~column
