"""What is asked of a defender's memory."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from arena.conformance.defender_trials import AskedDefender, DefenderSubject, alike, differs, rows_of
from arena.conformance.results import ConformanceError
from arena.players import Response
from arena.players.response import pick

ROWS = 7


def leaves_no_trace(subject: DefenderSubject) -> None:
    """What is not committed changes neither memory nor later answers."""
    x, rows = subject.images(ROWS), rows_of(range(ROWS), 9, subject.device)
    desk = subject.desk()
    first = rows_of(range(ROWS), 1, subject.device)
    desk.play(x, first)
    before = copy.deepcopy(desk.memory)
    expected = desk.copy().ask(x, rows)
    if differs(expected, desk.copy().ask(x, rows)) is not None:
        return  # not what was asked before is to blame
    for turn in range(2, 9):
        desk.ask(x, replace(first, turn=first.turn + turn))
        desk.ask(x.repeat_interleave(3, 0), first.repeat(3))
    if not alike(before, desk.memory):
        raise ConformanceError("respond changes its memory; only remember may, for rows that were kept")
    if (found := differs(expected, desk.ask(x, rows))) is not None:
        raise ConformanceError(f"answers that were not kept change later ones: {found}")


def keeps_to_its_memory(subject: DefenderSubject) -> str | None:
    """Rows of other games or accounts change no answer, where memory is by game or account."""
    scope = subject.defender.memory
    if scope in ("none", "service"):
        return "it keeps no memory" if scope == "none" else "all rows of the service may influence it"
    alone, again, among = (_stream(subject, others) for others in ((), (), _others(scope)))
    for turn, (one, same, other) in enumerate(zip(alone, again, among, strict=True), start=1):
        if differs(one, same) is not None:
            return None  # not the others' doing
        if (found := differs(one, other)) is not None:
            raise ConformanceError(
                f'its memory is "{scope}", but rows of another {scope} change its answer {turn}: {found}'
            )
    return None


def _others(scope: str) -> tuple[tuple[int, int], ...]:
    """Games and accounts apart from game 0, account 1, by that scope."""
    return ((1, 1), (2, 0)) if scope == "game" else ((1, 1), (0, 0), (2, 2))


def _stream(subject: DefenderSubject, others: tuple[tuple[int, int], ...]) -> list[Response]:
    """The answers to 20 rows of game 0 from account 1, `others` sending the same images before and beside."""
    desk = subject.desk(games=3)
    images, answers = subject.images(20), []
    for turn, image in enumerate(images, start=1):
        x = image.unsqueeze(0)
        for game, account in others:
            desk.play(x, rows_of([game], 2 * turn - 1, subject.device, account))
        beside = [(game, account) for game, account in others if game != 0]
        games, accounts = [0, *(g for g, _ in beside)], [1, *(a for _, a in beside)]
        rows = rows_of(games, 2 * turn, subject.device, accounts)
        answers.append(pick(desk.play(x.expand(len(games), -1, -1, -1).clone(), rows), torch.tensor([0])))
    return answers


def starts_empty(subject: DefenderSubject) -> str | None:
    """As the verdict `vote` asks: all rows are the first of the one game of an empty memory."""
    if subject.defender.memory == "none":
        return "it keeps no memory"
    x, rows = subject.images(ROWS), rows_of(range(ROWS), 1, subject.device)
    desk = subject.desk()
    expected = desk.copy().ask(x, rows)
    for turn in (1, 2, 3):
        desk.play(x, replace(rows, turn=rows.turn + turn - 1))
    later = replace(rows, turn=rows.turn + 3)
    remembered, again = (desk.copy().ask(x, later) for _ in range(2))
    if differs(remembered, again) is not None:
        return None  # not what it starts is to blame
    first = replace(rows, game=torch.zeros_like(rows.game))
    client = AskedDefender(desk.defender, desk.base, games=1, accounts=1)
    if (found := differs(expected, client.ask(x, first))) is not None:
        raise ConformanceError(
            f"the memory that start makes is not empty, or answers depend on the game's place: {found}"
        )
    if (found := differs(remembered, desk.ask(x, later))) is not None:
        raise ConformanceError(f"starting a memory, and answering by it, changes another: {found}")
    return None
