"""Boards: matrices, judged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arena.evaluation.benign.losses import BenignLoss
from arena.evaluation.clean_utility import Utility
from arena.league.board import Board, CellFigures, Finding, MatrixBoard
from arena.league.caps import Limits
from arena.league.cells import Cell, Source
from arena.league.deploying import deployed
from arena.league.estimates import figures
from arena.league.looks import looks_of
from arena.league.matrices import Matrix, matrices
from arena.league.orders import Judged, judged
from arena.league.ratings import ratings
from arena.league.sentences import sentences
from arena.league.standing import rankable, withheld

Findings = Callable[[Matrix], Sequence[Finding]]
"""What the audit says of a matrix."""
Curves = Mapping[tuple[str, str], Sequence[tuple[int, float]]]


@dataclass(frozen=True)
class Worth:
    """What defenders of a world are worth to honest users, by name, where that was measured."""

    utilities: Mapping[str, Utility]
    benign: Mapping[str, Sequence[BenignLoss]]


def board_of(
    sources: Sequence[Source],
    *,
    title: str,
    counts: Iterable[int] | None = None,
    knowledge: str | None = None,
    cap_accuracy: float | None = None,
    cap_delay: float | None = None,
    findings: Findings | None = None,
    looks: int | None = None,
) -> Board:
    """A board of matches, of one log or of several.

    Args:
        counts: the query counts wanted; None: all that are reported.
        knowledge: the attackers' that is wanted (`Threat.known`); None: each, in matrices of its own.
        cap_accuracy: how much clean accuracy, in percentage points, a mixture of defenders may lose at most.
        cap_delay: how many times the undefended classifier's time per query it may take at most.
        findings: what the audit finds; None where it was not asked, so that nothing is withheld for it.
        looks: at how many looks ranks are tested in all; None: as the log says (`looks.looks_of`).
    """
    wanted = [s for s in sources if knowledge is None or s.threat.known == knowledge]
    whole = matrices(wanted)
    chosen = None if counts is None else set(counts)
    limits = Limits(cap_accuracy, cap_delay)
    boards = []
    for group in _groups(whole):
        curves, worth = _curves(group), Worth(_utilities(group), _benign(group))
        for matrix in group:
            if chosen is None or matrix.at in chosen:
                found = list(findings(matrix)) if findings else []
                boards.append(_judged(matrix, curves, worth, limits, found, looks))
    return Board(title, sentences(boards), _logs(wanted), boards)


def _groups(found: Sequence[Matrix]) -> list[list[Matrix]]:
    """The matrices of one world and threat, at all of its counts."""
    groups: dict[Any, list[Matrix]] = defaultdict(list)
    for matrix in found:
        info = next(iter(matrix.cells.values())).sources[0].match.info
        groups[info.dataset_sha, info.classifier_sha, matrix.threat.with_budget(1).model_dump_json()].append(
            matrix
        )
    return list(groups.values())


def _curves(group: Sequence[Matrix]) -> Curves:
    """By pair what the headline leaves at each count; at 0 the clean accuracy."""
    curves: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for matrix in group:
        for pair, cell in matrix.cells.items():
            curves[pair][matrix.at] = float((1 - cell.games.lost(cell.verdict)).mean())
            curves[pair][0] = float((~cell.games.clean).mean())
    return {pair: sorted(points.items()) for pair, points in curves.items()}


def _utilities(group: Sequence[Matrix]) -> dict[str, Utility]:
    """By defender: measured on the most images."""
    found: dict[str, Utility] = {}
    for matrix in group:
        for (_, defender), cell in matrix.cells.items():
            for utility in (s.utility for s in cell.sources if s.utility is not None):
                if defender not in found or utility.images > found[defender].images:
                    found[defender] = utility
    return found


def _benign(group: Sequence[Matrix]) -> dict[str, tuple[BenignLoss, ...]]:
    """By defender: from the match that knows most of it, of the most sessions."""
    found: dict[str, tuple[BenignLoss, ...]] = {}
    for matrix in group:
        for (_, defender), cell in matrix.cells.items():
            for own in (source.benign for source in cell.sources if source.benign):
                known = found.get(defender, ())
                if (len(own), own[0].sessions) > (len(known), known[0].sessions if known else 0):
                    found[defender] = own
    return found


def _judged(
    matrix: Matrix,
    curves: Curves,
    worth: Worth,
    limits: Limits,
    found: Sequence[Finding],
    looks: int | None,
) -> MatrixBoard:
    looks = looks or looks_of([source for cell in matrix.cells.values() for source in cell.sources])
    why = {pair: withheld(cell, found) for pair, cell in matrix.cells.items()}
    cells = {pair: _figures(cell, curves[pair], why[pair]) for pair, cell in matrix.cells.items()}
    own = {name: worth.utilities[name] for name in matrix.defenders if name in worth.utilities}
    grid = rankable(matrix, why)
    unsaid: dict[str, str] = {}
    notes: dict[str, str] = {}
    judgement: Judged = judged(matrix, grid, why, unsaid, looks)
    share = _shares_say_nothing(matrix)
    strengths, without = ([], {}) if share else ratings(grid)
    if share:
        unsaid["ratings"] = share
    elif not strengths:
        unsaid["ratings"] = "no cell may be ranked"
    if without:
        notes["ratings"] = "; ".join(f"{name}: {said}" if name else said for name, said in without.items())
    game = None if share else deployed(matrix, grid, why, own, limits, unsaid)
    if share:
        unsaid["equilibrium"] = share
    if looks > 1:
        notes["defender_ranks"] = notes["attacker_ranks"] = (
            f"Further games were played until ranks were settled: they were looked at {looks} times at most, "
            f"as fixed beforehand, and each look tests at a {looks}th of the level"
        )
    return MatrixBoard(
        dataset=matrix.dataset,
        classifier=matrix.classifier,
        threat=matrix.threat,
        at=matrix.at,
        attackers=matrix.attackers,
        defenders=matrix.defenders,
        cells=cells,
        missing=matrix.missing,
        worst=judgement.worst,
        defender_ranks=judgement.defender_ranks,
        attacker_ranks=judgement.attacker_ranks,
        tests=judgement.tests,
        ratings=strengths,
        equilibrium=game,
        utilities=own,
        findings=found,
        unsaid=unsaid,
        by="distance" if matrix.threat.objective == "minimum" else "left",
        orders=judgement.orders,
        notes=notes,
        benign={name: worth.benign[name] for name in matrix.defenders if name in worth.benign},
    )


def _shares_say_nothing(matrix: Matrix) -> str:
    if matrix.threat.epsilon < float("inf"):
        return ""
    return "the ball is infinite, so that every hit counts: what is left says nothing, distances do"


def _figures(cell: Cell, curve: Sequence[tuple[int, float]], why: str) -> CellFigures:
    return figures(
        cell, [point for point in curve if point[0] <= cell.at], why, [_facts(s) for s in cell.sources]
    )


def _facts(source: Source) -> dict[str, Any]:
    """What it takes to find a match, and to play it again."""
    run, info = source.run.info, source.match.info
    return {
        "log": source.log,
        "scenario": run.scenario,
        "run": source.run.id,
        "match": source.match.id,
        "command": f"arena play {run.scenario}",
        "seed": run.seed,
        "draw": source.draw,
        "device": run.device,
        "versions": dict(run.versions),
        "fingerprint": info.fingerprint,
        "attacker": info.attacker,
        "attacker_params": dict(info.attacker_params),
        "defender": info.defender,
        "defender_params": dict(info.defender_params),
        "fitted": dict(info.facts),
        "dataset_sha": info.dataset_sha,
        "classifier_sha": info.classifier_sha,
        "shards": f"{source.shards[0]} of {source.shards[1]}",
    }


def _logs(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """By log its runs, versions, devices and draws."""
    found: dict[str, dict[str, Any]] = {}
    for source in sources:
        own = found.setdefault(
            source.log, {key: [] for key in ("runs", "devices", "versions", "draws", "commitments")}
        )
        own["log"] = source.log
        run = source.run
        told = {"run": run.id, "scenario": run.info.scenario, "title": run.info.title, "started": run.started}
        for key, value in (
            ("runs", told | {"ended": run.ended, "seed": run.info.seed}),
            ("devices", run.info.device),
            ("versions", dict(run.info.versions)),
            ("draws", source.draw),
            ("commitments", source.secret),
        ):
            if value and value not in own[key]:
                own[key].append(value)
    return list(found.values())
