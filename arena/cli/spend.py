"""`arena board LOG --spend N`: further games until the ranks of defenders are settled, or N are played."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from arena.cli.console import CommandError, say
from arena.cli.play import play_quietly
from arena.league.audit.auditing import findings_of
from arena.league.board import MatrixBoard
from arena.league.boards import board_of
from arena.league.cells import Source
from arena.league.further import Part, next_part, open_defenders, scenario_of
from arena.league.looks import LOOKS, looks_done, up_to
from arena.league.matrices import Matrix, matrices, read_sources
from arena.log import open_log
from arena.running.runner import Run
from arena.scenario.seeds import Seeds


def spend(
    where: str,
    games: int,
    choose: Callable[[list[Source]], list[Source]],
    *,
    seeds: Seeds,
    data: Sequence[Path],
    device: str,
) -> None:
    """Play up to `games` further games of a log, where they decide a rank of a defender.

    An interrupted one goes on where it stopped.

    Args:
        choose: the matches that the board is of, which must be one matrix at its largest count.
        seeds: of the secret, if the log's games were played with one.

    Raises:
        SpendingError: if further games of another number were played into the log.
        ReplayError: if what plays in the log is not here.
    """
    while True:
        with open_log(where, create=False) as log:
            found = choose(read_sources(log))
        look = looks_done(found, games) + 1
        if look > LOOKS:
            say(f"all of the {games:,} further games that decide a rank are played")
            return
        matrix, judged = _judged(up_to(found, look - 1))
        part = next_part(matrix, judged, games, look)
        if part is None:
            say(_why_none(open_defenders(matrix, judged), look))
            return
        say(_announced(part))
        run = Run(scenario_of(part, seeds), device=device, data_dirs=data)
        play_quietly(run, where)


def _judged(sources: Sequence[Source]) -> tuple[Matrix, MatrixBoard]:
    found = matrices(sources)
    worlds = {(m.dataset, m.classifier, m.threat.with_budget(1).model_dump_json()) for m in found}
    if len(worlds) != 1:
        raise CommandError(
            f"--spend: these matches are of {len(worlds)} worlds and threats; choose one by --threat"
        )
    findings = findings_of(sources)  # which withhold ranks, as on the board
    board = board_of(sources, title="", counts=[found[0].at], looks=1 + LOOKS, findings=findings)
    return found[0], board.matrices[0]


def _announced(part: Part) -> str:
    defenders = dict.fromkeys(cell.defender for cell in part.cells)
    count = len(part.cells) * part.each
    return (
        f"part {part.look} of {LOOKS}: {count:,} further games for the open ranks of {', '.join(defenders)}, "
        f"{part.each:,} a cell"
    )


def _why_none(is_open: Sequence[str], look: int) -> str:
    if not is_open:
        return f"every rank of a defender is settled at look {look} of {LOOKS + 1}"
    return f"the ranks of {', '.join(is_open)} are open, but so few games more would decide none of them"
