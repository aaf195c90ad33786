"""The attack beside controls: plain noise, and defenses that defend nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from arena.league.audit.comparing import Comparison, compared, together
from arena.league.audit.figures import counted, exceeds
from arena.league.audit.roles import control_attackers, control_defenders, is_control
from arena.league.audit.said import Indicator, Said, Subject, cells, of_cell
from arena.league.cells import Cell
from arena.league.matrices import Matrix

FOOLED = 0.05
"""Found from a larger share of the images, where noise fools and the attack does not."""
NO_NOISE = "no attacker of plain noise was played (`noise`)"
NO_CONTROL = "no defender that defends nothing was played (`none`, `weak`)"


def _attackers(matrix: Matrix) -> list[str]:
    controls = control_attackers(matrix)
    return [name for name in matrix.attackers if name not in controls]


def _beats_noise(subject: Subject) -> Iterator[Said]:
    """Against each control defender, is the attack better than noise? It speaks of all of its cells."""
    matrix = subject.matrix
    noises, defenders = control_attackers(matrix), control_defenders(matrix)
    missing = NO_NOISE if not noises else NO_CONTROL if not defenders else ""
    for name in _attackers(matrix):
        if missing:
            yield Said("unchecked", missing, attacker=name)
            continue
        for defender, noise in itertools.product(defenders, noises):
            own, other = matrix.cells.get((name, defender)), matrix.cells.get((noise, defender))
            pair = None if own is None or other is None else compared(own, other)
            said = (
                Said("unchecked", f"against {defender} it and {noise} share no image")
                if pair is None
                else _beside_noise(pair, f"against {defender} beside {noise}: {pair.text}")
            )
            yield replace(said, attacker=name)


def _beside_noise(pair: Comparison, text: str) -> Said:
    if pair.level:
        return Said("found", text, _STRONGER)
    if pair.ahead:
        return Said("clear", text, nearness=-abs(pair.own - pair.other))
    return Said("unchecked", f"too few games to tell: {text}")


_STRONGER = (
    "Where nothing is defended the attack does no better than noise: give it more queries, or a threat in "
    "which noise does not win, before any defense is judged by it."
)


def _beats_weak(subject: Subject) -> Iterator[Said]:
    """Does the attack keep its success on no defense where that defends nothing, but differently? If not, it
    speaks of all of its cells in which the same image may get other answers."""
    matrix = subject.matrix
    for name in _attackers(matrix):
        controls = [cell for cell in matrix.of(name) if is_control(cell, "defender")]
        if len(controls) < 2:
            yield Said("unchecked", "no planted weak defense was played beside none (`weak`)", attacker=name)
            continue
        reference = next((cell for cell in controls if cell.facts), controls[0])
        for cell in controls:
            if cell is reference:
                continue
            said = _weakened(cell, reference)
            yield of_cell(said, cell)
            if said.status == "found":
                others = [one for one in matrix.of(name) if not one.facts and one not in controls]
                why = f"{cell.defender}, which changes nothing, stops it: {said.evidence}"
                yield from (of_cell(replace(said, evidence=why), one) for one in others)


def _weakened(cell: Cell, reference: Cell) -> Said:
    pair = compared(cell, reference)
    if pair is None:
        return Said("unchecked", f"no image was played against {reference.defender} too")
    said = f"beside {reference.defender}: {pair.text}"
    if pair.behind:
        advice = "A defense that changes nothing stops this attack: let it repeat what it stands by."
        return Said("found", said, advice)
    return Said("clear", said, nearness=pair.other - pair.own)


def _noise_fools(subject: Subject) -> Iterator[Said]:
    """On how many images does noise win where the attack does not?"""
    matrix = subject.matrix
    noises = control_attackers(matrix)
    for cell in cells(matrix):
        if cell.attacker in noises:
            continue
        others = [
            matrix.cells[noise, cell.defender] for noise in noises if (noise, cell.defender) in matrix.cells
        ]
        if not others:
            yield of_cell(Said("unchecked", NO_NOISE), cell)
        for noise in others:
            yield of_cell(_image_by_image(cell, noise), cell)


def _image_by_image(cell: Cell, noise: Cell) -> Said:
    mine, its = together(cell, noise)
    if not len(mine):
        return Said("unchecked", f"it and {noise.attacker} share no image")
    minimum = cell.threat.objective == "minimum"
    count = int((its < mine).sum() if minimum else ((its > 0.5) & (mine <= 0.5)).sum())
    does = "gets nearer than the attack" if minimum else "fools where the attack does not"
    said = f"{noise.attacker} {does} on {counted(count, len(mine), 'images')}"
    if not exceeds(count, len(mine), FOOLED):
        return Said("clear", said, nearness=count / len(mine))
    return Said("found", said, "Start the attack from noise, or give it more queries.")


BEATS_NOISE = Indicator("beats-noise", True, _beats_noise)
BEATS_WEAK = Indicator("beats-weak", True, _beats_weak)
NOISE_FOOLS = Indicator("noise-fools", False, _noise_fools)
