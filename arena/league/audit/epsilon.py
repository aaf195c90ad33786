"""Success that falls as epsilon grows: every smaller ball lies in the larger one."""

from __future__ import annotations

from collections.abc import Iterator

from arena.league.audit.comparing import compared
from arena.league.audit.roles import is_control
from arena.league.audit.said import Indicator, Said, Subject, cells, of_cell
from arena.league.cells import Cell
from arena.log.schema import to_json


def _judge(subject: Subject) -> Iterator[Said]:
    smaller = [other for other in subject.siblings if other.threat.epsilon < subject.matrix.threat.epsilon]
    for cell in cells(subject.matrix):
        if is_control(cell, "attacker"):
            continue
        played = [same for other in smaller for same in cells(other) if _agents(same) == _agents(cell)]
        if not played:
            yield of_cell(Said("unchecked", "no smaller epsilon was played"), cell)
            continue
        before = max(played, key=lambda other: other.threat.epsilon)
        pair = compared(cell, before)
        if pair is None:
            yield of_cell(Said("unchecked", "no image was played at a smaller epsilon, too"), cell)
            continue
        said = f"at epsilon {cell.threat.epsilon:.4g} beside {before.threat.epsilon:.4g}: {pair.text}"
        if pair.behind:
            advice = "The attack is at fault where a larger ball holds it up: take the better of both runs."
            yield of_cell(Said("found", said, advice), cell)
        else:
            yield of_cell(Said("clear", said, nearness=pair.other - pair.own), cell)


def _agents(cell: Cell) -> str:
    info = cell.sources[0].match.info
    return to_json([info.attacker, info.attacker_params, info.defender, info.defender_params])


FALLS_WITH_EPSILON = Indicator("falls-with-epsilon", True, _judge)
