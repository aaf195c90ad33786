"""What a defender costs honest users, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

from arena.evaluation.benign.history import History
from arena.evaluation.benign.losses import BenignLoss, mean_share
from arena.evaluation.clean_utility import Utility
from arena.league.rates import Rate
from arena.statistics import wilson


def accuracy_lost(own: Utility, bare: Utility) -> Rate:
    """Clean accuracy lost to that of the undefended classifier, in [-1, 1], with a 95 % interval; NaN in
    (-1, 1) if the two were not measured on as many images.

    Both answered the same images, and differ at most on those where their labels differ: of the n images a
    share d, of which at most all count, so that the difference has a variance of at most (d - lost^2) / n.
    d is taken at the upper end of its own Wilson interval, so that agreement on all n images does not
    promise agreement on all others.
    """
    if own.images != bare.images:
        return Rate(math.nan, -1.0, 1.0)
    n, lost = own.images, bare.accuracy - own.accuracy
    apart = wilson((1 - own.agreement) * n, n)[1]
    half = 1.96 * math.sqrt(max(0.0, apart - lost**2) / n)
    return Rate(lost, max(-1.0, lost - half), min(1.0, lost + half))


def usual(losses: Sequence[BenignLoss]) -> list[BenignLoss]:
    """Those of the usual history: the most queries of other benign clients that were played, else none; to a
    defender that met no history none would matter."""
    known = {loss.history: History.read(loss.history) for loss in losses}
    benign = [history for history in known.values() if history.kind in ("empty", "benign")]
    most = str(max(benign, key=lambda history: history.queries)) if benign else ""
    return [loss for loss in losses if loss.history == most]


def benign_lost(losses: Sequence[BenignLoss]) -> Rate:
    """The share of benign queries that is lost, with a 95 % interval over sessions: the mean over kinds of
    clients after the `usual` history; NaN in (0, 1) without any."""
    return Rate(*mean_share(usual(losses), "lost"))
