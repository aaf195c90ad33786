"""The largest part of a matrix in which every pair has a cell."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from arena.rules.outcome import Bools


def complete(there: Bools) -> tuple[Bools, Bools]:
    """The attackers and defenders to keep, as masks, so that all pairs of them are there and the fewest
    agents are dropped; of as few, rather defenders, since an attacker less flatters all that are left.

    The fewest agents that meet all missing pairs are a smallest vertex cover of a bipartite graph, which its
    largest matching gives (Koenig 1931). Each pair that is there is kept once by force, so that both sides
    keep somebody; none is kept if no pair is there.

    Args:
        there: [A,D].
    """
    missing = ~there
    best = np.zeros(there.shape[0], np.bool_), np.zeros(there.shape[1], np.bool_)
    if not missing.any():
        return ~best[0], ~best[1]
    most = (0, 0)
    for a, d in zip(*np.nonzero(there), strict=True):
        keep_a, keep_d = ~missing[:, d], ~missing[a]
        inner = missing[np.ix_(keep_a, keep_d)]
        drop_a, drop_d = _cover(inner)
        attackers, defenders = keep_a.copy(), keep_d.copy()
        attackers[np.flatnonzero(keep_a)[drop_a]] = False
        defenders[np.flatnonzero(keep_d)[drop_d]] = False
        kept = int(attackers.sum() + defenders.sum()), int(attackers.sum())
        if kept > most:
            most, best = kept, (attackers, defenders)
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
