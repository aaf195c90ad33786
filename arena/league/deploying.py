"""Which agents take part in the zero-sum game of a matrix, and at which prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from arena.evaluation.clean_utility import Utility
from arena.league.board import Equilibrium
from arena.league.caps import Limits, caps_of, prices, undefended
from arena.league.complete import complete
from arena.league.equilibrium import equilibrium
from arena.league.grid import Grid
from arena.league.matrices import Matrix
from arena.league.standing import NOT_PLAYED, reasons
from arena.messages import UserError
from arena.rules.outcome import Bools


def deployed(
    matrix: Matrix,
    grid: Grid,
    why: Mapping[tuple[str, str], str],
    utilities: Mapping[str, Utility],
    limits: Limits,
    unsaid: dict[str, str],
) -> Equilibrium | None:
    """The equilibrium of a matrix; None, and the reason in `unsaid`, where there is none.

    Args:
        grid: the cells that may be ranked; why: why others may not.
    """
    bare = undefended(utilities)
    priced = {name: prices(utilities.get(name), bare) for name in grid.defenders}
    left_out = {}
    for name, own in priced.items():
        lacking = [p for p in ("accuracy", "delay") if getattr(limits, p) is not None and own[p] is None]
        if lacking:
            left_out[name] = f"there is a cap on its {lacking[0]}, which was not measured"
    able = np.array([name not in left_out for name in grid.defenders])
    attackers, defenders = complete(grid.there & able)
    if attackers.sum() < 1 or defenders.sum() < 1:
        unsaid["equilibrium"] = "no pair of agents may be ranked"
        return None
    left_out |= _dropped(matrix, why, grid, attackers, defenders, left_out)
    part = grid.part(attackers, defenders)
    caps = caps_of(limits, [priced[name] for name in part.defenders])
    try:
        found = equilibrium(part, caps, left_out)
    except UserError as error:
        unsaid["equilibrium"] = str(error)
        return None
    return replace(
        found,
        caps={"accuracy": limits.accuracy, "delay": limits.delay},
        prices={p: _mean(found, priced, p) for p in ("accuracy", "delay")},
    )


def _mean(found: Equilibrium, priced: Mapping[str, Mapping[str, float | None]], name: str) -> float | None:
    """What the mixture costs; None where a member's price was not measured."""
    costs = [(member.share, priced[member.agent][name]) for member in found.defenders if member.share > 0]
    known = [share * cost for share, cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


def _dropped(
    matrix: Matrix,
    why: Mapping[tuple[str, str], str],
    grid: Grid,
    attackers: Bools,
    defenders: Bools,
    known: Mapping[str, str],
) -> dict[str, str]:
    """By agent that takes no part why: of its pairs that cannot be ranked the first with an agent that does,
    or with any."""
    cannot = reasons(matrix, why)
    kept = {name for name, k in zip(grid.attackers, attackers, strict=True) if k}
    kept |= {name for name, k in zip(grid.defenders, defenders, strict=True) if k}
    found = {}
    for side, names in enumerate((grid.attackers, grid.defenders)):
        for name in (n for n in names if n not in kept and n not in known):
            own = [(pair[1 - side], said) for pair, said in cannot.items() if pair[side] == name]
            own.sort(key=lambda item: (item[0] not in kept, item[1] == NOT_PLAYED))
            other, said = own[0] if own else ("others", "their cells are missing")
            found[name] = f"with {other}: {said}"
    return found
